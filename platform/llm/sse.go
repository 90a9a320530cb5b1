package llm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// ErrLine says that a server-sent event is larger than its reader allows.
var ErrLine = errors.New("server-sent event is too large")

// SSEReader reads server-sent events (WHATWG HTML §9.2.6). It holds at most one event of bounded size.
type SSEReader struct {
	r      *bufio.Reader
	max    int
	start  bool // at the first line, which may carry a byte order mark
	skipLF bool // the last line ended in CR: a LF that follows belongs to it
	line   []byte
	data   []byte
}

// NewSSEReader reads events of at most limit bytes (name and data together, and any one line).
func NewSSEReader(r io.Reader, limit int) *SSEReader {
	return &SSEReader{r: bufio.NewReaderSize(r, 4096), max: limit, start: true}
}

// Next returns the next event that has data. The data is valid until the next call. An event that the end
// of the stream cuts off is dropped, as the standard says.
func (s *SSEReader) Next() (name string, data []byte, err error) {
	s.data = s.data[:0]
	lines := 0
	for {
		line, err := s.readLine()
		if err != nil {
			return "", nil, err
		}
		if len(line) == 0 {
			if lines > 0 {
				return name, s.data, nil
			}
			name = ""
			continue
		}
		field, value := split(line)
		switch string(field) {
		case "event":
			name = string(value)
		case "data":
			if lines++; lines > 1 {
				s.data = append(s.data, '\n')
			}
			s.data = append(s.data, value...)
		}
		if len(s.data)+len(name) > s.max {
			return "", nil, ErrLine
		}
	}
}

func split(line []byte) (field, value []byte) {
	for i, c := range line {
		if c == ':' {
			value = line[i+1:]
			if len(value) > 0 && value[0] == ' ' {
				value = value[1:]
			}
			return line[:i], value // a comment has an empty field
		}
	}
	return line, nil
}

// readLine reads to LF, CR or CRLF without waiting for the byte after a CR.
func (s *SSEReader) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("read event stream: %w", err)
		}
		if s.skipLF {
			s.skipLF = false
			if c == '\n' {
				continue
			}
		}
		if c == '\n' || c == '\r' {
			s.skipLF = c == '\r'
			line := s.line
			if s.start {
				s.start = false
				if len(line) >= 3 && line[0] == 0xEF && line[1] == 0xBB && line[2] == 0xBF {
					line = line[3:]
				}
			}
			return line, nil
		}
		if s.line = append(s.line, c); len(s.line) > s.max {
			return nil, ErrLine
		}
	}
}
