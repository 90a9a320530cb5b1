"""Writes Presidio's own synthetic set: its templates filled by its generator, as JSONL {"text", "spans": [{"kind", "start", "end"}]}.

python3 test/bench/pii/generate.py N SEED > FILE      (needs presidio-evaluator)
"""
import json
import random
import sys

from faker import Faker
from presidio_evaluator.data_generator import PresidioSentenceFaker

n, seed = int(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
Faker.seed(seed)
out, sys.stdout = sys.stdout, sys.stderr  # the generator prints
maker = PresidioSentenceFaker(locale="en_US", lower_case_ratio=0.05, random_seed=seed)
for record in maker.generate_new_fake_sentences(num_samples=n):
    spans = [{"kind": s.entity_type, "start": s.start_position, "end": s.end_position} for s in record.spans]
    print(json.dumps({"text": record.full_text, "spans": spans}, ensure_ascii=False), file=out)
