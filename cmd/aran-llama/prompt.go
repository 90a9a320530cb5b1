package main

import (
	"errors"
	"fmt"
	"strings"
)

// message is one turn of a conversation.
type message struct {
	Role    string
	Content string
}

// segment is a part of a prompt. Only the template's own text is read for control tokens: what people and
// documents wrote stays text, also when it spells `<|im_end|>`.
type segment struct {
	text    string
	control bool
}

// chatML is the format of models that bring no template we can apply (OpenAI's ChatML). It adds no system
// text of its own.
func chatML(messages []message) (string, error) {
	var b strings.Builder
	for _, m := range messages {
		_, _ = fmt.Fprintf(&b, "<|im_start|>%s\n%s<|im_end|>\n", m.Role, m.Content)
	}
	b.WriteString("<|im_start|>assistant\n")
	return b.String(), nil
}

var errTemplate = errors.New("the model's chat template does not fit these messages")

// segments renders the conversation and tells the template's text from the messages'. The template sees
// placeholders (of the Unicode private use area) only, never what a message says.
func segments(render func([]message) (string, error), messages []message) ([]segment, error) {
	stand := make([]message, len(messages))
	for i, m := range messages {
		stand[i] = message{Role: m.Role, Content: placeholder(i)}
	}
	text, err := render(stand)
	if err != nil {
		return nil, err
	}
	var out []segment
	for i, m := range messages {
		before, after, found := strings.Cut(text, placeholder(i))
		if !found {
			return nil, fmt.Errorf("%w: message %d is left out or out of order", errTemplate, i)
		}
		out = append(out, segment{before, true}, segment{m.Content, false})
		text = after
	}
	if strings.Contains(text, placeholderStart) {
		return nil, fmt.Errorf("%w: a message stands there twice", errTemplate)
	}
	return append(out, segment{text, true}), nil
}

const (
	placeholderStart = "\uE0A0"
	placeholderEnd   = "\uE0A1"
)

func placeholder(i int) string { return fmt.Sprintf("%s%d%s", placeholderStart, i, placeholderEnd) }
