// Package quietfs knows the file systems on which a file may change without a notification from our kernel.
package quietfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Is reports whether an open file or directory is on a file system where others may write without our kernel's
// knowledge: one of a network, of a program, of a virtual machine's host, or in layers. So does one that can't be asked.
// See statfs(2) and inotify(7).
func Is(f *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return true
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return true
	}
	return false
}
