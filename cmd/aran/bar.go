package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// bar shows progress: one line that changes on a terminal, now and then a line elsewhere.
type bar struct {
	w     io.Writer
	live  bool
	began time.Time
	last  time.Time
	first int64
	shown bool
}

const (
	barWidth  = 30
	liveEvery = 100 * time.Millisecond
	lineEvery = 5 * time.Second
)

func newBar(w io.Writer) *bar {
	b := &bar{w: w, live: onTerminal(w)}
	b.begin()
	return b
}

// onTerminal reports whether somebody looks at what is written.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (b *bar) begin() {
	b.end()
	b.began, b.last, b.first = time.Now(), time.Time{}, -1
}

func (b *bar) show(done, total int64, what string) {
	if b.first < 0 {
		b.first = done
	}
	every := lineEvery
	if b.live {
		every = liveEvery
	}
	if time.Since(b.last) < every && done != total {
		return
	}
	b.last = time.Now()
	share := 0
	if total > 0 {
		share = int(min(barWidth, done*barWidth/total))
	}
	left := ""
	if rate := float64(done-b.first) / max(time.Since(b.began).Seconds(), 0.001); rate > 0 && total > done {
		left = ", about " + (time.Duration(float64(total-done)/rate) * time.Second).Round(time.Second).String() + " left"
	}
	if !b.live {
		_, _ = fmt.Fprintf(b.w, "%s%s\n", what, left)
		return
	}
	b.shown = true
	_, _ = fmt.Fprintf(b.w, "\r\x1b[K[%s%s] %s%s", strings.Repeat("#", share), strings.Repeat(".", barWidth-share), what, left)
}

// print writes a line that stays.
func (b *bar) print(s string) {
	if b.shown {
		_, _ = fmt.Fprint(b.w, "\r\x1b[K")
	}
	_, _ = fmt.Fprintln(b.w, s)
}

func (b *bar) end() {
	if b.shown {
		_, _ = fmt.Fprintln(b.w)
	}
	b.shown = false
}
