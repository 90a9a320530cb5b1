package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"aran/platform/fault"
	"aran/platform/rpc"
)

// lineIn is a line of a stream; what it leaves out is taken from the query.
type lineIn struct {
	ID   string `json:"id,omitempty"`
	Text string `json:"text"`
	under
}

type lineOut struct {
	Line int    `json:"line"`
	ID   string `json:"id,omitempty"`
	resultBody
}

// scanLines reads all lines, so that too many are refused before any is judged, and judges some at a time: their answers go out
// before the next are judged. A bad line does not stop the others.
func (s *Service) scanLines(w http.ResponseWriter, r *http.Request) error {
	base := lineIn{under: under{Origin: r.URL.Query().Get("origin"), Policy: r.URL.Query().Get("policy"), Dry: r.URL.Query().Get("dry") == strconv.FormatBool(true), Collections: r.URL.Query()["collection"]}}
	if _, err := base.job(); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	all := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	if len(body) == 0 {
		all = nil
	}
	if len(all) > maxLines {
		return fault.New(fault.TooLarge, "too_many_lines", "There are %d lines; a request takes %d.", len(all), maxLines)
	}
	out := lineWriter{w: w, flush: http.NewResponseController(w)}
	for n := 0; n < len(all); {
		some := all[n:min(n+linesAtOnce, len(all))]
		long := slices.IndexFunc(some, func(b []byte) bool { return len(b) > maxLine })
		if long >= 0 {
			some = some[:long]
		}
		answers, err := s.judgeLines(r.Context(), base, some, n)
		switch {
		case err != nil && !out.began:
			return err
		case err != nil: // what was judged has been answered
			err = rpc.Ended(r.Context(), err)
			if fault.KindOf(err) == fault.Internal {
				s.log.LogAttrs(r.Context(), slog.LevelError, "lines not judged", slog.String("request_id", rpc.RequestID(r.Context())), slog.Int("line", n+1), slog.String("error", err.Error()))
			}
			out.write(lineOut{Line: n + 1, resultBody: failed(err)})
			return nil
		}
		if n += len(some); long >= 0 {
			out.write(append(answers, lineOut{Line: n + 1, resultBody: failed(fault.New(fault.TooLarge, "line_too_long", "The line is longer than %d bytes; it and what follows is not judged.", maxLine))})...)
			return nil
		}
		out.write(answers...)
	}
	out.write() // there may have been no line
	return nil
}

// lineWriter writes answers as they are there.
type lineWriter struct {
	w     http.ResponseWriter
	flush *http.ResponseController
	began bool
}

// write sends answers on. The client may be gone: then the request's context ends, and with it the judging.
func (l *lineWriter) write(answers ...lineOut) {
	if !l.began {
		l.w.Header().Set("Content-Type", lineKind)
		l.began = true
	}
	enc := json.NewEncoder(l.w)
	enc.SetEscapeHTML(false)
	for _, a := range answers {
		if enc.Encode(a) != nil {
			return
		}
	}
	_ = l.flush.Flush() // where nothing can be flushed, it goes out at the end
}

// judgeLines judges lines, those together that are judged alike.
func (s *Service) judgeLines(ctx context.Context, base lineIn, lines [][]byte, before int) ([]lineOut, error) {
	out := make([]lineOut, 0, len(lines))
	groups := map[string][]int{}
	jobs := map[string]Job{}
	texts := make([]string, len(lines))
	var order []string
	for i, b := range lines {
		in := base
		in.Collections = slices.Clone(base.Collections)
		answer := lineOut{Line: before + i + 1}
		err := decode(b, &in, "text")
		answer.ID, texts[i] = in.ID, in.Text
		var job Job
		if err == nil {
			job, err = in.job()
		}
		if err != nil {
			answer.resultBody = failed(err)
			out = append(out, answer)
			continue
		}
		key := fmt.Sprintf("%s\x00%s\x00%t\x00%q\x00%q\x00%s", job.Origin, job.Policy, job.Dry, job.Conversation, job.Sources, strings.Join(job.Collections, "\x00"))
		if jobs[key].Origin == "" {
			jobs[key], order = job, append(order, key)
		}
		groups[key] = append(groups[key], i)
		out = append(out, answer)
	}
	for _, key := range order {
		some := make([]string, len(groups[key]))
		for n, i := range groups[key] {
			some[n] = texts[i]
		}
		results, err := s.judgeEach(ctx, jobs[key], some)
		if k := fault.KindOf(err); err != nil && k != fault.Invalid && k != fault.Missing && k != fault.Conflict {
			return nil, err
		}
		for n, i := range groups[key] {
			if err != nil { // the line names a policy that is not there
				out[i].resultBody = failed(err)
				continue
			}
			out[i].resultBody = results[n]
		}
	}
	return out, nil
}
