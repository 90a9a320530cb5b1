"""Writes what the reference tokenizer does with each code point, as ranges.

    python3 chars.py > ../../../service/infer/minilm/pack/chars.txt

Lines: KIND LO HI [TO...], all hexadecimal. KIND is drop, space, word (a part of a word) or alone (a
word of its own); TO is what the character becomes, itself when absent. Code points that are
not listed are part of a word, unchanged. Hangul syllables (ac00 to d7a3) are left out: they
decompose by the algorithm of the Unicode Standard, section 3.12.
The last line is the SHA-256 of the same over all code points, one by one (see chars_test.go).
Needs: tokenizers==0.23.3
"""
import hashlib
from tokenizers import normalizers, pre_tokenizers

norm = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
split = pre_tokenizers.BertPreTokenizer()

def behaviour(cp):
    """kind and the resulting code points"""
    text = norm.normalize_str("x" + chr(cp) + "x")
    words = [w for w, _ in split.pre_tokenize_str(text)]
    to = [ord(c) for c in text[1:-1].replace(" ", "")]
    if len(words) == 1:
        return ("word", to) if to else ("drop", [])
    if len(words) == 2 and not to:
        return "space", []
    assert len(words) == 3 and len(to) == 1, (hex(cp), text, words)
    return "alone", to

digest, runs = hashlib.sha256(), []
for cp in range(0x110000):
    if 0xD800 <= cp <= 0xDFFF:
        continue
    kind, to = behaviour(cp)
    digest.update(f"{cp:x} {kind} {' '.join('%x' % c for c in to)}\n".encode())
    if to == [cp]:
        to = []
    elif to:
        to = ["%x" % c for c in to]
    if 0xAC00 <= cp <= 0xD7A3 or (kind == "word" and not to):
        continue
    if runs and not to and runs[-1][0] == kind and runs[-1][2] == cp - 1 and not runs[-1][3]:
        runs[-1][2] = cp
    else:
        runs.append([kind, cp, cp, to])
for kind, lo, hi, to in runs:
    print(" ".join([kind, "%x" % lo, "%x" % hi] + to))
print("sha256", digest.hexdigest())
