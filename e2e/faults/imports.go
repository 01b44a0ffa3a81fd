package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// firstOfImport is the lowest id of an import.
	firstOfImport = 1000
	// wholeImport is how many users an import has that is one change: it writes them to the log before
	// it commits only if they are more than fit into SQLite's cache. So they have long names.
	wholeImport, longName = 20_000, 240
	// An import by batches has more changes, and fewer users.
	batchedImport, batch = 500, 50
)

// rows is a file of so many users that no import had before.
func (r *run) rows(count int) string {
	var rows strings.Builder
	rows.WriteString("id,name,age,email\n")
	for n := range count {
		id := firstOfImport + r.imported + n
		fmt.Fprintf(&rows, "%d,%0*d,30,u%d@example.com\n", id, longName, id, id)
	}
	return rows.String()
}

// before is how many users the store had before the import of the last ones.
func (r *run) before(imported int) int { return users + r.imported - imported }

// importFile is a command that imports rows.
func (r *run) importFile(ctx context.Context, rows string, flags ...string) *exec.Cmd {
	file := filepath.Join(r.folder, "users.csv")
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		panic(err)
	}
	return exec.CommandContext(ctx, r.binary, append([]string{"import", file}, flags...)...)
}

// killed kills a command once a condition holds. It returns errNoEffect if the command ends before.
func killed(ctx context.Context, command *exec.Cmd, when func() (bool, error)) error {
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { command.Wait(); close(ended) }()
	for {
		now, err := when()
		if err != nil || now {
			command.Process.Kill()
			<-ended
			status, ok := command.ProcessState.Sys().(syscall.WaitStatus)
			if err == nil && (!ok || !status.Signaled()) {
				err = fmt.Errorf("%w: the import ended before it could be killed", errNoEffect)
			}
			return err
		}
		select {
		case <-ended:
			return fmt.Errorf("%w: the import ended before it could be killed", errNoEffect)
		case <-time.After(time.Millisecond):
		}
	}
}

// killImport kills an import into the store, of which the log has a part, and makes it again. It took
// effect if a part of it was in the log and none of it is in the store.
func killImport(ctx context.Context, r *run) (string, error) {
	rows := r.rows(wholeImport)
	r.imported += wholeImport
	before := r.logSize()
	const enough = 2 << 20 // of users who are not committed
	noEffect := killed(ctx, r.importFile(ctx, rows, "--store", r.store), func() (bool, error) { return r.logSize() >= before+enough, nil })
	if noEffect != nil && !errors.Is(noEffect, errNoEffect) {
		return "", noEffect
	}
	size := r.logSize() - before
	left, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	if before := r.before(wholeImport); noEffect == nil && left.users != before {
		return "", fmt.Errorf("an import that was killed left %d users", left.users-before)
	}
	for {
		out, err := r.importFile(ctx, rows, "--store", r.store).CombinedOutput()
		if err == nil {
			break
		}
		// It does not wait for ever while the server writes without a pause.
		if ctx.Err() != nil || !strings.Contains(string(out), "has locked") {
			return "", fmt.Errorf("the import after the one that was killed: %w: %s", err, out)
		}
	}
	return fmt.Sprintf("killed with %d bytes of it in the log and none in the store, at revision %d; made again", size, left.revision), noEffect
}

// some waits until the store has some of the users of an import.
func (r *run) some(ctx context.Context) func() (bool, error) {
	enough := r.before(batchedImport) + batch*(1+r.random.IntN(batchedImport/batch/2))
	return func() (bool, error) {
		now, err := r.state(ctx)
		return now.users >= enough, err
	}
}

func (r *run) importByBatches(ctx context.Context, rows string, flags ...string) *exec.Cmd {
	s := r.servers[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.importFile(ctx, rows, append([]string{"--server", s.url, "--batch-rows", fmt.Sprint(batch)}, flags...)...)
}

// An import says how to go on: with a row, or from the beginning, if it is not known whether the first
// change was made. On a busy machine it also gives up when other writers keep it waiting.
var (
	goOn  = regexp.MustCompile(`go on with --skip-rows (\d+)`)
	again = regexp.MustCompile(`import the file again|UNAVAILABLE.*nothing was imported`)
)

// resumePoint returns the row with which an import says that it can go on.
func resumePoint(said string, before int) (row int, err error) {
	if point := goOn.FindStringSubmatch(said); point != nil {
		return strconv.Atoi(point[1])
	}
	if again.MatchString(said) {
		return before, nil
	}
	return 0, fmt.Errorf("an import ends and does not say how to go on: %s", said)
}

// finish makes the rest of an import by batches, as often as it says that it can go on.
func (r *run) finish(ctx context.Context, rows string, from int) error {
	for {
		out, err := r.importByBatches(ctx, rows, "--skip-rows", fmt.Sprint(from)).CombinedOutput()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if from, err = resumePoint(string(out), from); err != nil {
			return err
		}
	}
}

// killImportByBatches kills the command that imports to a server, and makes the import again from the
// beginning, since nobody said how far it had come.
func killImportByBatches(ctx context.Context, r *run) (string, error) {
	rows := r.rows(batchedImport)
	r.imported += batchedImport
	noEffect := killed(ctx, r.importByBatches(ctx, rows), r.some(ctx))
	if noEffect != nil && !errors.Is(noEffect, errNoEffect) {
		return "", noEffect
	}
	left, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	if err := r.finish(ctx, rows, 0); err != nil {
		return "", fmt.Errorf("the import after the one that was killed: %w", err)
	}
	done := left.users - r.before(batchedImport)
	if noEffect == nil && done == batchedImport {
		noEffect = fmt.Errorf("%w: all of the import was in the store", errNoEffect)
	}
	return fmt.Sprintf("killed with %d of %d users in the store, at revision %d; made again", done, batchedImport, left.revision), noEffect
}

// killServerOfImport kills the server that an import goes to, and goes on where the import says.
func killServerOfImport(ctx context.Context, r *run) (string, error) {
	rows := r.rows(batchedImport)
	r.imported += batchedImport
	command := r.importByBatches(ctx, rows)
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for some, now := r.some(ctx), false; !now && len(ended) == 0; time.Sleep(time.Millisecond) {
		var err error
		if now, err = some(); err != nil {
			return "", err
		}
	}
	under := len(ended) == 0
	cut, err := r.kill()
	if err != nil {
		return "", err
	}
	failed := <-ended
	highest := r.history.seen()
	left, err := r.left(ctx)
	if err != nil {
		return "", err
	}
	if err := r.servers[0].start(ctx); err != nil {
		return "", err
	}
	done, from := left.users-r.before(batchedImport), batchedImport
	if failed != nil {
		if from, err = resumePoint(said.String(), 0); err != nil {
			return "", err
		}
		nothing := strings.Contains(said.String(), "nothing was imported") && done > 0
		if nothing || done < from || done > from+batch {
			return "", fmt.Errorf("the import says that %d users are stored, and the store has %d: %s", from, done, said.String())
		}
		if err := r.finish(ctx, rows, from); err != nil {
			return "", fmt.Errorf("the rest of the import: %w", err)
		}
	}
	effect, err := r.took(left, cut, highest)
	if err == nil && (!under || failed == nil || done == batchedImport) {
		err = fmt.Errorf("%w: the import had ended", errNoEffect)
	}
	return fmt.Sprintf("%s, with %d of %d users of the import, which went on with row %d", effect, done, batchedImport, from), err
}

// checkImport checks that every user of an import is in the history, and once.
func (r *run) checkImport(truth []change) error {
	count := make(map[int32]int)
	for _, c := range truth {
		if c.id >= firstOfImport {
			count[c.id]++
		}
	}
	for id := range r.imported {
		if n := count[int32(firstOfImport+id)]; n != 1 {
			return fmt.Errorf("the history has %d changes of user %d, whom an import brought once", n, firstOfImport+id)
		}
	}
	if len(count) != r.imported {
		return fmt.Errorf("the history has %d users of an import of %d", len(count), r.imported)
	}
	return nil
}
