package search

import (
	"strconv"
	"strings"
)

// with is the condition on search_document d that its metadata pass the tests, with parameters from $n on.
func with(filter []Condition, n int) (clause string, args []any) {
	var sb strings.Builder
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(n+len(args)-1)
	}
	for _, c := range filter {
		sb.WriteString(" AND ")
		if c.Not {
			sb.WriteString("NOT ")
		}
		sb.WriteString("EXISTS (SELECT 1 FROM search_metadata m WHERE m.collection = d.collection AND m.document = d.id AND m.name = " + arg(c.Name))
		for i, v := range c.In {
			sb.WriteString([]string{" AND m.value IN (", ","}[min(i, 1)] + arg(v))
		}
		if len(c.In) > 0 {
			sb.WriteByte(')')
		}
		if r := c.Range; r != nil {
			sb.WriteString(" AND m.kind = " + arg(r.kind()))
			for _, b := range []struct {
				op    string
				bound *float64
			}{{" > ", r.Above}, {" >= ", r.From}, {" < ", r.Below}, {" <= ", r.To}} {
				if b.bound != nil {
					sb.WriteString(" AND m.number" + b.op + arg(*b.bound))
				}
			}
		}
		sb.WriteByte(')')
	}
	return sb.String(), args
}
