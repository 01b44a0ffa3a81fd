package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// errNoMount is that this user may not mount.
var errNoMount = errors.New("a disk of its own cannot be mounted")

// diskSize is that of the disk that is filled.
const diskSize = 48 << 20

// mount gives the run a small disk of its own, and has the store on it.
func (r *run) mount() (unmount func(), err error) {
	disk := filepath.Join(r.folder, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		return nil, err
	}
	err = unix.Mount("roster-faults", disk, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("size=%d,mode=700", diskSize))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: %w", errNoMount, err)
	}
	if err != nil {
		return nil, err
	}
	r.store = filepath.Join(disk, "roster.db")
	return func() { unix.Unmount(disk, unix.MNT_DETACH) }, nil
}

// fillDisk fills the disk of the store with another file, and then removes it. It took effect if the
// disk has no block left and writes are refused, and none is acknowledged any more.
func fillDisk(ctx context.Context, r *run) (string, error) {
	filler := filepath.Join(filepath.Dir(r.store), "filler")
	defer os.Remove(filler)
	if err := fill(filler); err != nil {
		return "", err
	}
	r.history.forget()
	acks, err := r.refused(ctx)
	if err != nil {
		return "", err
	}
	const words = "no space is left"
	refused := 0
	for answer, count := range r.history.said() {
		if !strings.Contains(answer, words) {
			return "", fmt.Errorf("on a full disk a write is refused with %q, which does not say that %s", answer, words)
		}
		refused += count
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(filler, &disk); err != nil {
		return "", err
	}
	// What was acknowledged is there, and is read also now.
	highest := r.history.seen()
	now, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	list, err := r.servers[0].now().ListUsers(ctx, &rosterv1.ListUsersRequest{PageSize: 1, ShowTotal: true})
	if err != nil {
		return "", fmt.Errorf("a read on a full disk: %w", err)
	}
	if now.revision < highest || list.GetRevision() < highest || list.GetTotalSize() != users {
		return "", fmt.Errorf("on a full disk the store is at revision %d and the server at %d with %d users, and %d was acknowledged",
			now.revision, list.GetRevision(), list.GetTotalSize(), highest)
	}
	for _, to := range [][]string{{"--store", r.store}, {"--server", r.servers[0].url}} {
		out, err := r.importFile(ctx, r.rows(wholeImport), to...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), words) {
			return "", fmt.Errorf("an import with %s on a full disk says %q", to[0], out)
		}
	}
	if err := os.Remove(filler); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d more writes were acknowledged until %d blocks were left; then %d were refused, the store was at revision %d, and two imports were refused",
		acks, disk.Bavail, refused, now.revision), nil
}

// fill writes a file until the disk is full.
func fill(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		n, err := file.Write(block)
		if errors.Is(err, unix.ENOSPC) {
			block = block[:(len(block)-n)/2] // the last bytes fit as well
		} else if err != nil {
			return err
		}
	}
	return nil
}

// refused waits until no write is acknowledged for half a second, while others fail. It returns how many
// were acknowledged before.
func (r *run) refused(ctx context.Context) (acks int, err error) {
	before := r.history.acknowledged()
	for {
		last, failures := r.history.acknowledged(), r.history.failures()
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("writes are acknowledged on a full disk until: %w", ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
		if r.history.acknowledged() == last && r.history.failures() >= failures+writers {
			return last - before, nil
		}
	}
}

// limitFiles lets no file of the server grow. It took effect if writes fail and none is acknowledged; then
// the limit is lifted.
func limitFiles(ctx context.Context, r *run) (string, error) {
	pid := r.servers[0].pid()
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &before); err != nil {
		return "", err
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: before.Max}, nil); err != nil {
		return "", err
	}
	failures := r.history.failures()
	_, err := r.refused(ctx)
	if err != nil {
		return "", err
	}
	refused := r.history.failures() - failures
	highest := r.history.seen()
	now, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	if now.revision < highest {
		return "", fmt.Errorf("the store is at revision %d, and %d was acknowledged", now.revision, highest)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &before, nil); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d writes failed, and the store stayed at revision %d", refused, now.revision), nil
}
