package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
	"banset/policy/config"
	"banset/policy/judge"
)

// localtime says what the system's zone is; see localtime(5).
const localtime = "/etc/localtime"

// A zone is the system's zone as it is now. Go's time.Local is what it was when the program started.
type zone struct {
	*time.Location
	data []byte
}

// systemZone reads the system's zone. As for every program, TZ in the environment comes first, and no file is UTC.
func systemZone(path string) (zone, error) {
	if _, set := os.LookupEnv("TZ"); set {
		return zone{time.Local, nil}, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return zone{time.UTC, nil}, nil
	}
	if err != nil {
		return zone{time.Local, nil}, fmt.Errorf("reading the time zone: %w", err)
	}
	location, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return zone{time.Local, nil}, fmt.Errorf("reading the time zone from %s: %w", path, err)
	}
	return zone{location, data}, nil
}

// inZone gives policies that name no zone the system's.
func inZone(policies []*config.Policy, z zone) []*config.Policy {
	out := make([]*config.Policy, len(policies))
	for i, p := range policies {
		if p.Zone == nil {
			local := *p
			local.Zone = z.Location
			p = &local
		}
		out[i] = p
	}
	return out
}

// zoneWatch is the task that notices when the system's zone is changed.
type zoneWatch struct {
	path    string
	log     *slog.Logger
	changed func(context.Context)
	ready   chan struct{}
}

func newZoneWatch(path string, log *slog.Logger, changed func(context.Context)) *zoneWatch {
	w := &zoneWatch{path: path, log: log, changed: changed, ready: make(chan struct{})}
	close(w.ready)
	return w
}

func (w *zoneWatch) String() string         { return "time zone" }
func (w *zoneWatch) Ready() <-chan struct{} { return w.ready }

func (w *zoneWatch) Run(ctx context.Context) error {
	f, err := w.events()
	if err != nil {
		w.log.Warn(fmt.Sprintf("time zone: %v; when it changes, reload", err))
		<-ctx.Done()
		return nil
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 16<<10)
	for {
		w.changed(ctx) // also what happened before the events were asked for
		for {
			n, err := f.Read(buf)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("waiting for a change of the time zone: %w", err)
			}
			if names(buf[:n], filepath.Base(w.path)) {
				break
			}
		}
	}
}

// events is an inotify descriptor for the file's directory: the file is a link that is replaced.
func (w *zoneWatch) events() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", w.path, err)
	}
	const kinds = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_CLOSE_WRITE | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(w.path), kinds); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watching %s: %w", w.path, err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// names reports whether one of the events of inotify(7) is of a name, or whether events were lost.
func names(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		size := unix.SizeofInotifyEvent + int(e.Len)
		if size > len(events) {
			return true
		}
		if e.Mask&unix.IN_Q_OVERFLOW != 0 || strings.TrimRight(string(events[unix.SizeofInotifyEvent:size]), "\x00") == name {
			return true
		}
		events = events[size:]
	}
	return false
}

// zoneChanged goes over to the system's zone, if it is another one: from the next line on, stamps without a zone are
// read in it.
func (d *daemon) zoneChanged(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	z, err := systemZone(d.options.Localtime)
	if err != nil {
		d.log.Warn(fmt.Sprintf("time zone: %v; it stays as it is", err))
		return
	}
	if d.logs == nil || bytes.Equal(z.data, d.zone.data) {
		return
	}
	d.tasks.stop(d.logs)
	d.zone = z
	name, _ := time.Now().In(z.Location).Zone()
	d.log.Info(fmt.Sprintf("time zone: it is %s now; stamps without a zone are read in it from here on", name))
	var positions []source.Position
	if err := d.court.do(ctx, func(j *judge.Judge) {
		positions = d.court.places()
		j.ForgetSkews()
	}); err != nil {
		return // the daemon ends
	}
	d.logs = d.newLogs(d.current(), positions)
	if err := d.tasks.start(ctx, d.logs); err != nil && ctx.Err() == nil {
		d.log.Error(fmt.Sprintf("time zone: %v", err))
	}
}
