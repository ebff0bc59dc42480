package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"math/bits"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// bbolt's file format, version 2 (go.etcd.io/bbolt/internal/common, v1.5.0). All numbers are in the machine's own
// byte order.
//
//	page     id u64, flags u16, count u16, overflow u32, then its elements
//	meta     magic, version, page size, flags u32; root page, root sequence, freelist page, page count, txid u64; sum
//	branch   pos, key size u32, child page u64
//	leaf     flags, pos, key size, value size u32; pos counts from the element's own beginning
//	bucket   as a leaf's value: root page, sequence u64; root page 0: a leaf page follows right here
//	freelist page ids u64; a count of 0xffff means that the true count is the first of them
const (
	pageHeader   = 16
	elemSize     = 16
	bucketHeader = 16
	metaSize     = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	flagBucketElem = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)

	minPage, maxPage = 1 << 10, 64 << 10
	// maxDepth is far above the depth of any tree that fits a disk: every branch has two children or more.
	maxDepth = 40
)

var order = binary.NativeEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hash is one key's share of a bucket's sum.
func hash(k, v []byte) uint64 {
	h := crc32.Update(crc32.Checksum(k, castagnoli), castagnoli, v)
	return uint64(h) + uint64(len(k))<<32
}

// A report is what a sound file holds.
type report struct {
	size int64 // bytes of all pages, used or free
	used int64 // bytes of the pages that are used
	full int64 // bytes that keys, values and their headers take in those
}

// checkFile reads all of f. It fails with ErrBroken or ErrNewer and the reason.
func checkFile(f *os.File) (report, error) {
	fi, err := f.Stat()
	if err != nil {
		return report{}, err
	}
	// Pages are read in the order of the keys, which on a disk that turns is slow: have them all fetched.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED)
	return check(f, fi.Size())
}

// check reads a whole bbolt file of ours page by page and never trusts a number in it: each page is what its parent
// says, lies inside the file, is used once; keys are in order; and every bucket adds up to the sum that the last
// transaction left. It needs memory for a few pages and one bit per page.
func check(r io.ReaderAt, size int64) (report, error) {
	c := &checker{r: r, size: size, schema: map[string][]byte{}, sums: map[string]*sum{}}
	root, freelist, err := c.meta()
	if err != nil {
		return report{}, err
	}
	if err := c.tree(root, 0, nil, nil, c.bucket); err != nil {
		return report{}, err
	}
	rep := report{size: int64(c.pages) * int64(c.pageSize), full: c.full}
	for _, w := range c.seen {
		rep.used += int64(bits.OnesCount64(w)) * int64(c.pageSize)
	}
	if freelist != noFreelist {
		if err := c.freelist(freelist); err != nil {
			return report{}, err
		}
	}
	return rep, c.total()
}

type checker struct {
	r        io.ReaderAt
	size     int64
	pageSize int
	pages    uint64   // ids below this one exist
	seen     []uint64 // one bit per page
	bufs     [][]byte // one per level of the tree
	full     int64    // see report

	name   string            // of the bucket being read
	now    *sum              // its entry of sums
	schema map[string][]byte // what the bucket of that name holds
	sums   map[string]*sum   // of all buckets, as they are
}

func brokenf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

// meta chooses the meta page as bbolt does: the valid one with the higher transaction number. While one of the two is
// written the other one holds, which is what makes a transaction atomic.
func (c *checker) meta() (root, freelist uint64, err error) {
	if c.size == 0 {
		return 0, 0, brokenf("the file is empty")
	}
	first, firstErr := c.metaAt(0)
	var second []byte
	var secondErr error
	if firstErr == nil {
		second, secondErr = c.metaAt(int64(order.Uint32(first[8:])))
	} else {
		for ps := int64(minPage); ps <= maxPage; ps *= 2 {
			if second, secondErr = c.metaAt(ps); secondErr == nil && int64(order.Uint32(second[8:])) == ps {
				break
			}
			second, secondErr = nil, firstErr
		}
	}
	best := first
	switch {
	case firstErr != nil && secondErr != nil:
		return 0, 0, firstErr
	case firstErr != nil || secondErr == nil && order.Uint64(second[48:]) > order.Uint64(first[48:]):
		best = second
	}
	ps := order.Uint32(best[8:])
	if ps < minPage || ps > maxPage || ps&(ps-1) != 0 {
		return 0, 0, brokenf("a page size of %d", ps)
	}
	c.pageSize = int(ps)
	root, freelist, c.pages = order.Uint64(best[16:]), order.Uint64(best[32:]), order.Uint64(best[40:])
	if c.pages < 3 || c.pages > uint64(c.size)/uint64(ps) {
		return 0, 0, brokenf("it should have %d pages of %d bytes but is %d bytes long", c.pages, ps, c.size)
	}
	c.seen = make([]uint64, c.pages/64+1)
	c.seen[0] = 3 // the meta pages
	return root, freelist, nil
}

// metaAt reads the meta page at off and checks its sum.
func (c *checker) metaAt(off int64) ([]byte, error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := c.r.ReadAt(b, off); errors.Is(err, io.EOF) {
		return nil, brokenf("it is only %d bytes long", c.size)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	b = b[pageHeader:]
	if order.Uint32(b) != boltMagic {
		return nil, brokenf("it is no bbolt file")
	}
	if v := order.Uint32(b[4:]); v != boltVersion {
		return nil, brokenf("version %d of bbolt's file format", v)
	}
	h := fnv.New64a()
	h.Write(b[:56])
	if h.Sum64() != order.Uint64(b[56:]) {
		return nil, brokenf("the sum of its first page is wrong")
	}
	return b, nil
}

// page reads the page id with its overflow into level's buffer and claims it: no page is used twice, which also ends
// every cycle.
func (c *checker) page(id uint64, level int) ([]byte, error) {
	for len(c.bufs) <= level {
		c.bufs = append(c.bufs, make([]byte, c.pageSize))
	}
	if id < 2 || id >= c.pages {
		return nil, brokenf("page %d of %d is used", id, c.pages)
	}
	b := c.bufs[level][:c.pageSize]
	if err := c.read(b, id); err != nil {
		return nil, err
	}
	if got := order.Uint64(b); got != id {
		return nil, brokenf("page %d says it is page %d", id, got)
	}
	more := uint64(order.Uint32(b[12:]))
	if more >= c.pages-id {
		return nil, brokenf("page %d reaches beyond the end", id)
	}
	for i := id; i <= id+more; i++ {
		if err := c.claim(i); err != nil {
			return nil, err
		}
	}
	if want := int(more+1) * c.pageSize; more > 0 {
		if cap(c.bufs[level]) < want {
			c.bufs[level] = make([]byte, want)
		}
		b = c.bufs[level][:want]
		if err := c.read(b, id); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (c *checker) read(b []byte, id uint64) error {
	if _, err := c.r.ReadAt(b, int64(id)*int64(c.pageSize)); err != nil {
		return fmt.Errorf("%w: page %d can't be read: %w", ErrBroken, id, err)
	}
	return nil
}

func (c *checker) claim(id uint64) error {
	if c.seen[id/64]&(1<<(id%64)) != 0 {
		return brokenf("page %d is used twice", id)
	}
	c.seen[id/64] |= 1 << (id % 64)
	return nil
}

// tree reads the page id and all below it, whose keys must be in [low, high); nil has no bound. leaf is called for
// each key, in order; its arguments are the checker's memory.
func (c *checker) tree(id uint64, level int, low, high []byte, leaf leafFunc) error {
	if level > maxDepth {
		return brokenf("page %d is %d levels deep", id, level)
	}
	b, err := c.page(id, level)
	if err != nil {
		return err
	}
	switch flags := order.Uint16(b[8:]); flags {
	case flagLeaf:
		return c.leaves(b, id, level, low, high, leaf)
	case flagBranch:
	default:
		return brokenf("page %d is of type %#x", id, flags)
	}

	count := int(order.Uint16(b[10:]))
	if count == 0 || pageHeader+count*elemSize > len(b) {
		return brokenf("page %d has %d elements", id, count)
	}
	c.full += pageHeader
	key := func(i int) ([]byte, error) {
		at := pageHeader + i*elemSize
		return c.slice(b, id, at, order.Uint32(b[at:]), order.Uint32(b[at+4:]))
	}
	this, err := key(0)
	if err != nil {
		return err
	}
	for i := range count {
		c.full += elemSize + int64(len(this))
		if i == 0 && low != nil && bytes.Compare(this, low) < 0 || high != nil && bytes.Compare(this, high) >= 0 {
			return brokenf("page %d holds keys of another page", id)
		}
		next := high
		if i+1 < count {
			if next, err = key(i + 1); err != nil {
				return err
			}
			if bytes.Compare(this, next) >= 0 {
				return brokenf("page %d has keys out of order", id)
			}
		}
		child := order.Uint64(b[pageHeader+i*elemSize+8:])
		if err := c.tree(child, level+1, this, next, leaf); err != nil {
			return err
		}
		this = next
	}
	return nil
}

type leafFunc func(level int, isBucket bool, k, v []byte) error

// leaves reads the keys of a leaf page b.
func (c *checker) leaves(b []byte, id uint64, level int, low, high []byte, leaf leafFunc) error {
	count := int(order.Uint16(b[10:]))
	if pageHeader+count*elemSize > len(b) {
		return brokenf("page %d has %d elements", id, count)
	}
	c.full += pageHeader
	var last []byte
	for i := range count {
		at := pageHeader + i*elemSize
		flags, pos := order.Uint32(b[at:]), order.Uint32(b[at+4:])
		ksize, vsize := order.Uint32(b[at+8:]), order.Uint32(b[at+12:])
		k, err := c.slice(b, id, at, pos, ksize)
		if err != nil {
			return err
		}
		if uint64(at)+uint64(pos)+uint64(ksize)+uint64(vsize) > uint64(len(b)) {
			return brokenf("page %d has a value that reaches beyond it", id)
		}
		v := b[uint64(at)+uint64(pos)+uint64(ksize):][:vsize]
		if i > 0 && bytes.Compare(last, k) >= 0 {
			return brokenf("page %d has keys out of order", id)
		}
		if i == 0 && low != nil && bytes.Compare(k, low) < 0 || high != nil && bytes.Compare(k, high) >= 0 {
			return brokenf("page %d holds keys of another page", id)
		}
		last = k
		if flags&^flagBucketElem != 0 {
			return brokenf("page %d has an element of type %#x", id, flags)
		}
		c.full += elemSize + int64(ksize) + int64(vsize)
		if err := leaf(level, flags&flagBucketElem != 0, k, v); err != nil {
			return err
		}
	}
	return nil
}

// slice is a key of the element at at in page b.
func (c *checker) slice(b []byte, id uint64, at int, pos, size uint32) ([]byte, error) {
	if size == 0 || uint64(at)+uint64(pos)+uint64(size) > uint64(len(b)) {
		return nil, brokenf("page %d has a key that reaches beyond it", id)
	}
	return b[uint64(at)+uint64(pos):][:size], nil
}

// bucket reads one element of the root: a bucket by its name.
func (c *checker) bucket(level int, isBucket bool, k, v []byte) error {
	if !isBucket || len(v) < bucketHeader {
		return brokenf("%q is no bucket", k)
	}
	c.name = string(k)
	c.now = new(sum)
	c.sums[c.name] = c.now
	root := order.Uint64(v)
	if root != 0 {
		return c.tree(root, level+1, nil, nil, c.record)
	}
	page := v[bucketHeader:]
	if len(page) < pageHeader || order.Uint16(page[8:]) != flagLeaf {
		return brokenf("bucket %q holds no page", k)
	}
	return c.leaves(page, 0, level+1, nil, nil, c.record)
}

// record reads one key of a bucket.
func (c *checker) record(_ int, isBucket bool, k, v []byte) error {
	if isBucket {
		return brokenf("bucket %q has a bucket inside", c.name)
	}
	c.now.add(k, v)
	if c.name == schemaBucket {
		if len(c.schema) == 1000 {
			return brokenf("its schema has no end")
		}
		c.schema[string(k)] = bytes.Clone(v)
	}
	return nil
}

// freelist reads the list of free pages: bbolt writes over whatever stands there.
func (c *checker) freelist(id uint64) error {
	b, err := c.page(id, 0)
	if err != nil {
		return err
	}
	if flags := order.Uint16(b[8:]); flags != flagFreelist {
		return brokenf("page %d is of type %#x, not the list of free pages", id, flags)
	}
	count, ids := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if count == 0xffff {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return brokenf("the list of free pages has %d entries", count)
	}
	for i := range count {
		free := order.Uint64(ids[i*8:])
		if free < 2 || free >= c.pages {
			return brokenf("page %d of %d is free", free, c.pages)
		}
		if err := c.claim(free); err != nil {
			return err
		}
	}
	return nil
}

// total compares what the buckets hold with what the last transaction said they do.
func (c *checker) total() error {
	v, ok := c.schema[versionKey]
	if !ok {
		return brokenf("it is no state of banset")
	}
	n, err := version(v)
	if err != nil {
		return err
	}
	if n > Schema {
		return fmt.Errorf("%w: it has schema %d, this one knows %d", ErrNewer, n, Schema)
	}
	for name, got := range c.sums {
		key := sumKey + name
		want, err := parseSum(c.schema[key])
		if err != nil {
			return err
		}
		delete(c.schema, key)
		if *got != want && name != schemaBucket {
			return brokenf("bucket %q holds %d keys that do not add up to what was last written", name, got.count)
		}
	}
	for key, v := range c.schema {
		if name, ok := strings.CutPrefix(key, sumKey); ok && !bytes.Equal(v, sum{}.bytes()) {
			return brokenf("bucket %q is gone", name)
		}
	}
	return nil
}
