package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"aran/client"
)

const (
	shownDigest = 16 // digits of a digest that are shown, and name a text to release
	statusKept  = "quarantined"
)

var errSeenAnother = errors.New("the document is another one now; list the quarantine again")

// listDocuments shows what is in quarantine in the whole tenant.
func listDocuments(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "documents list", "--status quarantined")
	status := f.String("status", "", "quarantined: what the guard refused, in the whole tenant")
	c, rest, err := platform(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 0 || *status != statusKept {
		return fmt.Errorf("%w: aran documents list --status quarantined", errUsage)
	}
	for cursor := ""; ; {
		list, next, err := c.Quarantine(ctx, cursor)
		if err != nil {
			return err
		}
		for _, q := range list {
			if _, err := fmt.Fprintf(t.out, "%s\t%s\tversion %d\t%.*s\t%s\t%s\t%s\n", q.Collection, q.ID, q.Version, shownDigest, q.SHA256, q.Owner, q.Reason, places(q)); err != nil {
				return err
			}
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// places says where the guard refused something.
func places(q client.Quarantined) string {
	var out []string
	for _, p := range q.Passages {
		switch {
		case !p.Blocked:
		case p.Title:
			out = append(out, "title")
		default:
			out = append(out, strconv.Itoa(p.Start)+"-"+strconv.Itoa(p.End))
		}
	}
	return strings.Join(out, ",")
}

// releaseDocument lets a version out of quarantine that was looked at before: its digest says which.
func releaseDocument(ctx context.Context, t terminal, args []string) error {
	const usage = "--sha256 DIGEST --note WHY COLLECTION ID"
	f := flags(t, "documents release", usage)
	digest := f.String("sha256", "", "digest of the text that was looked at, or its beginning as the list shows it")
	note := f.String("note", "", "why it may be found; it stands in the audit log")
	c, rest, err := platform(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 || *note == "" || len(*digest) < shownDigest {
		return fmt.Errorf("%w: aran documents release %s", errUsage, usage)
	}
	q, err := c.InQuarantine(ctx, rest[0], rest[1])
	if err != nil {
		return err
	}
	if !strings.HasPrefix(q.SHA256, strings.ToLower(*digest)) {
		return errSeenAnother
	}
	if err := c.Release(ctx, q, *note); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.err, "version %d of %s is released; it is indexed now\n", q.Version, q.ID)
	return err
}
