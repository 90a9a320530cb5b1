// Package outgoing finds what an answer may not carry out: links that carry data away, marks and text of the instructions,
// HTML that a page would run, commands that destroy, what crosses a tenant's boundaries, and JSON that breaks its schema.
//
// It is pure: no clock that a caller could notice, no network, no state but caches. Every function takes linear time,
// whatever the text. It also says where an answer that is still being written may be cut (Next).
package outgoing
