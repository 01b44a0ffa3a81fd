package service

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"example.com/roster/directory"
)

// A spool keeps the rows of an import in a temporary file until all have arrived: so the store is locked
// for as long as it takes to write them, and not for as long as a caller takes to send them. The file
// has no name, and is gone with the process.
type spool struct {
	file *os.File
	to   *bufio.Writer
	size int64
	max  int64 // of size
	row  []byte
}

var errSpoolFull = errors.New("the spool is full")

// newSpool returns a spool for up to max bytes.
func newSpool(max int64) (*spool, error) {
	file, err := os.CreateTemp("", "roster-import-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	// Where an open file cannot be removed, close does it.
	_ = os.Remove(file.Name())
	return &spool{file: file, to: bufio.NewWriterSize(file, 64<<10), max: max}, nil
}

func (s *spool) close() {
	s.file.Close()
	_ = os.Remove(s.file.Name())
}

// add appends a row, which has this number.
func (s *spool) add(number int64, user *directory.User) error {
	row := binary.AppendVarint(s.row[:0], number)
	row = binary.AppendVarint(row, int64(user.ID))
	row = binary.AppendVarint(row, int64(user.Age))
	for _, text := range [...]string{user.Name, user.Email} {
		row = append(binary.AppendUvarint(row, uint64(len(text))), text...)
	}
	s.row = row
	if s.size += int64(len(row)); s.size > s.max {
		return errSpoolFull
	}
	if _, err := s.to.Write(row); err != nil {
		return fmt.Errorf("%w: keep the rows of an import: %w", directory.ErrUnavailable, err)
	}
	return nil
}

// complete is called after the last add, and before each.
func (s *spool) complete() error {
	if err := s.to.Flush(); err != nil {
		return fmt.Errorf("%w: keep the rows of an import: %w", directory.ErrUnavailable, err)
	}
	return nil
}

// spoolBatch is how many rows a spool hands on at a time.
const spoolBatch = 1000

// each reads all rows from the first, and calls f with some of them at a time. The slices must not be kept.
func (s *spool) each(f func(numbers []int64, users []directory.User) error) error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	from := bufio.NewReaderSize(s.file, 64<<10)
	numbers, users := make([]int64, 0, spoolBatch), make([]directory.User, 0, spoolBatch)
	for {
		number, user, err := readRow(from)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read the rows of an import again: %w", err)
		}
		if err == nil {
			numbers, users = append(numbers, number), append(users, user)
		}
		if len(users) > 0 && (err == io.EOF || len(users) == spoolBatch) {
			if err := f(numbers, users); err != nil {
				return err
			}
			numbers, users = numbers[:0], users[:0]
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readRow returns io.EOF after the last row.
func readRow(from *bufio.Reader) (number int64, user directory.User, err error) {
	if number, err = binary.ReadVarint(from); err != nil {
		return 0, user, err
	}
	var values [2]int64
	for i := range values {
		if values[i], err = binary.ReadVarint(from); err != nil {
			return 0, user, cutOff(err)
		}
	}
	var texts [2]string
	for i := range texts {
		length, err := binary.ReadUvarint(from)
		if err != nil {
			return 0, user, cutOff(err)
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(from, text); err != nil {
			return 0, user, cutOff(err)
		}
		texts[i] = string(text)
	}
	return number, directory.User{ID: int32(values[0]), Name: texts[0], Age: int32(values[1]), Email: texts[1]}, nil
}

func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
