package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Local is a transport into a handler of this process. Its handlers see a request as a server would have made it:
// a fresh context with the caller's deadline and cancellation but none of its values, and the caller as peer.
// Make one with InProcess. Safe for concurrent use.
type Local struct {
	caller  string
	handler http.Handler
	running sync.WaitGroup
}

// InProcess returns a transport that calls h in this process on behalf of the service `caller`.
func InProcess(caller string, h http.Handler) *Local { return &Local{caller: caller, handler: h} }

// Wait returns when no handler runs any more, or with ctx's error.
func (t *Local) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { t.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bare has the deadline and cancellation of a context and none of its values.
type bare struct{ context.Context } //nolint:containedctx // it is a context

func (bare) Value(any) any { return nil }

// RoundTrip implements http.RoundTripper. The handler's context ends when the response body is closed.
func (t *Local) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(WithPeer(bare{req.Context()}, t.caller))
	in := t.request(ctx, req)
	pr, pw := io.Pipe()
	res := &http.Response{
		Proto: in.Proto, ProtoMajor: in.ProtoMajor, ProtoMinor: in.ProtoMinor,
		ContentLength: -1, Request: req, Trailer: http.Header{},
	}
	w := &responseWriter{header: http.Header{}, pipe: pw, started: make(chan struct{}), res: res, cancel: cancel, head: req.Method == http.MethodHead}
	res.Body = &responseBody{pr, w}
	// As on a connection: once the caller gave up, reads fail and a handler that reads or writes is let go.
	w.letGo = context.AfterFunc(ctx, func() {
		_ = pw.CloseWithError(ctx.Err()) // never fails
		_ = in.Body.Close()
	})
	t.running.Add(1)
	go t.serve(w, in)
	select {
	case <-w.started:
	case <-req.Context().Done():
	}
	if err := req.Context().Err(); err != nil {
		// The handler may have answered in the same moment, perhaps because of it; its answer is dropped.
		cancel()
		return nil, err
	}
	return w.response()
}

func (t *Local) request(ctx context.Context, req *http.Request) *http.Request {
	// Not Clone: it would take the caller's pattern and path values along.
	u := *req.URL
	in := (&http.Request{
		Method: req.Method, URL: &u, Header: req.Header.Clone(), Body: req.Body, ContentLength: req.ContentLength, Host: req.Host, Trailer: req.Trailer,
		RequestURI: req.URL.RequestURI(), Proto: "HTTP/2.0", ProtoMajor: 2,
	}).WithContext(ctx)
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if in.Header == nil {
		in.Header = http.Header{}
	}
	if req.Header.Get("Upgrade") != "" {
		in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	}
	in.RemoteAddr = "127.0.0.1:0"
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.Body = requestBody{in.Body, ctx}
	return in
}

// requestBody tells a handler whose caller gave up so, whatever its body says when it is closed amid a read.
type requestBody struct {
	io.ReadCloser
	ctx context.Context //nolint:containedctx // of the request that it belongs to
}

func (b requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.ctx.Err() != nil {
		err = b.ctx.Err()
	}
	return n, err
}

func (t *Local) serve(w *responseWriter, in *http.Request) {
	defer t.running.Done()
	err := errReset // as a server does when a handler does not return: the stream breaks, the reason stays here
	defer func() {
		_ = recover()
		w.letGo()
		w.finish(err)
		_ = in.Body.Close()
		w.cancel()
	}()
	t.handler.ServeHTTP(w, in)
	err = in.Context().Err() // nobody may take what a caller cut short for the whole answer
}

var errReset = errors.New("stream reset by the handler")

// responseBody hands over the trailers at its end, and cancels the handler when the reader is done with it.
type responseBody struct {
	*io.PipeReader
	w *responseWriter
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.PipeReader.Read(p)
	if errors.Is(err, io.EOF) {
		maps.Copy(b.w.res.Trailer, b.w.trailer) // here and not before: the reader may look at the names meanwhile
	}
	return n, err
}

func (b *responseBody) Close() error {
	b.w.cancel()
	return b.PipeReader.Close()
}

// responseWriter hands a handler's answer to the waiting RoundTrip. Only the handler's goroutine writes to it.
type responseWriter struct {
	header  http.Header
	pipe    *io.PipeWriter
	res     *http.Response
	cancel  context.CancelFunc
	letGo   func() bool // stops what ends the pipe when the caller gives up
	head    bool
	started chan struct{}
	once    sync.Once

	// Written before started is closed, read after.
	code int
	sent http.Header
	err  error
	peer net.Conn // the client's end after 101

	trailer http.Header // written before the pipe is closed, read after

	server   net.Conn
	hijacked bool
}

func (w *responseWriter) response() (*http.Response, error) {
	if w.err != nil {
		return nil, w.err
	}
	w.res.Status, w.res.StatusCode, w.res.Header = fmt.Sprint(w.code, " ", http.StatusText(w.code)), w.code, w.sent
	if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
		w.res.ContentLength = n
	}
	if w.code == http.StatusSwitchingProtocols {
		w.res.Body, w.res.ContentLength = upgraded{w.peer, w.cancel}, 0
	}
	return w.res, nil
}

// upgraded is the client's end of a connection after 101.
type upgraded struct {
	net.Conn
	cancel context.CancelFunc
}

func (u upgraded) Close() error {
	u.cancel()
	return u.Conn.Close()
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(code int) {
	if code >= 100 && code < 200 && code != http.StatusSwitchingProtocols {
		return // informational answers are not passed on
	}
	w.once.Do(func() {
		if code == http.StatusSwitchingProtocols {
			w.peer, w.server = net.Pipe()
		}
		for _, v := range w.header["Trailer"] {
			for n := range strings.SplitSeq(v, ",") {
				w.res.Trailer[http.CanonicalHeaderKey(strings.TrimSpace(n))] = nil
			}
		}
		w.code, w.sent = code, w.header.Clone()
		maps.DeleteFunc(w.sent, func(k string, _ []string) bool { return k == "Trailer" || strings.HasPrefix(k, http.TrailerPrefix) })
		close(w.started)
	})
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.head {
		return len(p), nil
	}
	return w.pipe.Write(p)
}

func (w *responseWriter) finish(err error) {
	if w.hijacked {
		return // the handler's own connection now; it closes it
	}
	if err != nil {
		w.once.Do(func() { w.err = err; close(w.started) })
		_ = w.pipe.CloseWithError(err) // never fails
		return
	}
	w.WriteHeader(http.StatusOK)
	w.trailer = http.Header{}
	for k, v := range w.header {
		if n, ok := strings.CutPrefix(k, http.TrailerPrefix); ok {
			w.trailer[http.CanonicalHeaderKey(n)] = slices.Clone(v)
		} else if _, declared := w.res.Trailer[k]; declared {
			w.trailer[k] = slices.Clone(v)
		}
	}
	_ = w.pipe.Close() // never fails
}

// Flush sends the header; bytes are never held back.
func (w *responseWriter) Flush() { w.WriteHeader(http.StatusOK) }

// SetWriteDeadline does nothing: a reader that is gone or gives up unblocks a write.
func (w *responseWriter) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: the caller's deadline is the context's.
func (w *responseWriter) SetReadDeadline(time.Time) error { return nil }

// EnableFullDuplex is how it works anyway.
func (w *responseWriter) EnableFullDuplex() error { return nil }

// Hijack gives the connection to the handler after it answered 101.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.server == nil {
		return nil, nil, errors.New("hijack is possible only after status 101")
	}
	w.hijacked = true
	return w.server, bufio.NewReadWriter(bufio.NewReader(w.server), bufio.NewWriter(w.server)), nil
}
