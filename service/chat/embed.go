package chat

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// Bounds of an embeddings request; OpenAI takes as many texts.
const (
	maxEmbedTexts = 2048
	maxEmbedBatch = 256
	maxEmbedRunes = 100_000
)

// embedRequest is OpenAI's "Create embeddings". Other fields are ignored.
type embedRequest struct {
	Model      string          `json:"model"`
	Input      json.RawMessage `json:"input"`
	Format     string          `json:"encoding_format"`
	Dimensions *int            `json:"dimensions"`
}

func decodeEmbed(b []byte) (q embedRequest, texts []string, err error) {
	if err := json.Unmarshal(b, &q); err != nil {
		return q, nil, fault.New(fault.Invalid, "malformed_json", "The body is not valid JSON for this request.").Because(err)
	}
	if q.Model == "" {
		return q, nil, invalid("model", "is missing; GET /v1/models lists what there is")
	}
	if q.Format != "" && q.Format != "float" && q.Format != "base64" {
		return q, nil, invalid("encoding_format", `must be "float" or "base64"`)
	}
	texts, err = embedTexts(q.Input)
	return q, texts, err
}

func embedTexts(raw json.RawMessage) ([]string, error) {
	var one string
	var many []string
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil, invalid("input", "is missing")
	case json.Unmarshal(raw, &one) == nil:
		many = []string{one}
	case json.Unmarshal(raw, &many) == nil:
	default:
		return nil, invalid("input", "must be a text or an array of texts; token numbers belong to another model's vocabulary and are not taken")
	}
	if len(many) == 0 || len(many) > maxEmbedTexts {
		return nil, invalid("input", "takes 1 to "+strconv.Itoa(maxEmbedTexts)+" texts")
	}
	for i, t := range many {
		if t == "" {
			return nil, invalid("input."+strconv.Itoa(i), "is empty")
		}
		if len([]rune(t)) > maxEmbedRunes {
			return nil, invalid("input."+strconv.Itoa(i), "has more than "+strconv.Itoa(maxEmbedRunes)+" characters")
		}
	}
	return many, nil
}

func (s *Service) embeddings(w http.ResponseWriter, r *http.Request) {
	b, err := body(r)
	var q embedRequest
	var texts []string
	if err == nil {
		q, texts, err = decodeEmbed(b)
	}
	if err == nil && !permitted(identity(r), q.Model, q.Model) {
		err = s.models.unknown(r.Context(), identity(r), q.Model)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := embedAnswer{Data: make([]object, 0, len(texts)), format: q.Format}
	for batch := range slices.Chunk(texts, maxEmbedBatch) {
		res, err := s.d.Infer.Embed(r.Context(), &inferv1.EmbedRequest{Model: q.Model, Texts: batch, Digest: out.digest}) // all batches by one version
		switch {
		case fault.KindOf(err) == fault.Missing:
			err = s.models.unknown(r.Context(), identity(r), q.Model)
		case err != nil:
			err = asFault(r.Context(), err)
		case q.Dimensions != nil && *q.Dimensions != int(res.GetDim()):
			err = invalid("dimensions", "model "+res.GetModel()+" makes vectors of "+strconv.Itoa(int(res.GetDim()))+" dimensions and cannot shorten them")
		case len(res.GetVectors()) != len(batch):
			err = fault.New(fault.Unavailable, "encoder_answer", "The encoder did not answer for every text.")
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		out.add(res)
	}
	s.name(w, rpc.RequestID(r.Context()))
	usage := object{"prompt_tokens": out.tokens, "total_tokens": out.tokens}
	answer := object{"object": "list", "data": out.Data, "model": out.model, "usage": usage}
	answer["aran"] = object{"request_id": rpc.RequestID(r.Context()), "model": out.model, "digest": out.digest, "truncated": out.truncated}
	writeJSON(w, http.StatusOK, answer)
}

type embedAnswer struct {
	Data      []object
	format    string
	model     string
	digest    string
	tokens    int
	truncated []int // texts whose end the model did not see
}

func (a *embedAnswer) add(res *inferv1.EmbedResponse) {
	a.model, a.digest = res.GetModel(), res.GetDigest()
	for _, v := range res.GetVectors() {
		i := len(a.Data)
		a.tokens += int(v.GetTokens())
		if v.GetTruncated() {
			a.truncated = append(a.truncated, i)
		}
		e := object{"object": "embedding", "index": i, "embedding": v.GetValues()}
		if a.format == "base64" {
			e["embedding"] = base64.StdEncoding.EncodeToString(littleEndian(v.GetValues()))
		}
		a.Data = append(a.Data, e)
	}
}

// littleEndian is how OpenAI packs float32 vectors.
func littleEndian(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}
