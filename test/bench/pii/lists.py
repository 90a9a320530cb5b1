"""Makes the lists of names in service/guard/pii/data from those of Faker (MIT) and of names (MIT; the US census of 1990).

python3 test/bench/pii/lists.py service/guard/pii/data

family.txt has the rarer family names of the census: they count behind a first name only. Latin letters are made small. A word that is also a common English word goes to common.txt, so that it counts as a
name only where something else says so.
"""
import importlib
import json
import pathlib
import re
import sys

PEOPLE = "en_IN ta_IN hi_IN mr_IN gu_IN or_IN bn_BD en_US en_GB en_IE en_NZ de_DE de_AT de_CH fr_FR fr_CA es_ES es_MX it_IT nl_NL nl_BE pl_PL pt_PT pt_BR sv_SE da_DK no_NO fi_FI cs_CZ sk_SK hu_HU ro_RO hr_HR sl_SI lt_LT lv_LV et_EE tr_TR id_ID vi_VN en_NG yo_NG ig_NG ha_NG zu_ZA".split()
SMALL = {"de", "la", "van", "von", "den", "der", "da", "do", "dos", "di", "del", "el", "al", "bin", "ten", "ter", "te", "op", "het", "dr", "mr", "mrs", "ms", "miss", "le", "du", "y", "e"}
# Words that are names somewhere and English everywhere; months and days among them.
COMMON = """able ace art august autumn barber baron bill bishop black blue bond book booker boston bright brown bush butler camp can care carpenter case cash chance chase christian church clay cliff close cook cooper cross crystal dale dawn day dean drew duke earl early east eve faith farmer field fields finn fish fisher flowers ford fox frank free friday gay gene glass gold good grace grant gray green guy hall harbor hardy harmony hart haven heath hill holiday holly hood hope house hunter iris ivy jack jade jewel job jordan joy judge june just key king knight lake land lane law long love low major many mark marks mason may mercy miles mill miller mills moon moore more my nelly new noble north oak olive page paris park patience pearl penny perry peter pierce pool porter post potter power precious price prince queen ray read red reed rich rise river rivers robin rock rose ruby rush sage salt sandy saint sawyer serenity shade sharp short sky small smart smith snow sparks stage star steel stone storm strong summer sun sunday sunny swan sydney taylor terry trinity turner van violet virginia walker wall ward warden waters way webb weeks well wells west white wild will wise wolf wood woods worth wright young in an do so to no on at is be by he me we us or as am pm ok la le du an sen din son roman german english french irish dutch polish swiss asia africa india china america january february march april july september october november december monday tuesday wednesday thursday saturday thanks thank dear hello best regards please sir madam customer service support team manager doctor""".split()


def words(values):
    for v in values:
        for w in re.split(r"[\s'’-]+" if " " in v else r"\s+", v):
            if len(w) > 1 and not re.search(r"[.\d()]", w) and w.lower() not in SMALL:
                yield w.lower()


def main():
    out = pathlib.Path(sys.argv[1])
    first, last = set(), set()
    for locale in PEOPLE:
        p = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for name in dir(p):
            value = getattr(p, name)
            if not isinstance(value, (list, tuple, dict)):
                continue
            if name.startswith("first_names") or name.startswith("unisex"):
                first.update(words(value))
            elif name.startswith("last_names"):
                last.update(words(value))
    census = pathlib.Path(importlib.import_module("names").__file__).parent
    for file in ("dist.male.first", "dist.female.first"):
        first.update(line.split()[0].lower() for line in (census / file).read_text().splitlines())
    india = json.loads((pathlib.Path(__file__).parent / "india.json").read_text())  # common ones that Faker leaves out
    first.update(india["first"])
    last.update(india["last"])
    family = [line.split()[0].lower() for line in (census / "dist.all.last").read_text().splitlines()[:20000]]
    family = {w for w in family if w not in last}
    lorem = importlib.import_module("faker.providers.lorem.en_US").Provider
    common = set(COMMON) | {w.lower() for w in lorem.word_list}
    countries = importlib.import_module("faker.providers.address.en").Provider.countries
    india = importlib.import_module("faker.providers.address.en_IN").Provider
    us = importlib.import_module("faker.providers.address.en_US").Provider
    strong = {c.split("(")[0].strip() for c in countries} | set(us.states)  # more often a place than a name
    places = set(india.cities)
    for name in ("states", "union_territories"):
        for s in getattr(india, name, ()):
            strong.add(s[0] if isinstance(s, tuple) else s)
    for locale in ("de_DE", "fr_FR", "es_ES", "it_IT", "pl_PL", "nl_NL", "sv_SE", "pt_PT"):
        p = importlib.import_module(f"faker.providers.address.{locale}").Provider
        for name in ("cities", "city_names", "states", "regions", "provinces", "autonomous_communities"):
            for s in getattr(p, name, ()):
                s = s if isinstance(s, str) else s[-1]
                if isinstance(s, str) and len(s) > 3:
                    places.add(s)
    for name, values in (("first", first), ("last", last), ("family", family), ("common", common), ("countries", {p.lower() for p in strong}), ("places", {p.lower() for p in places} - {p.lower() for p in strong})):
        (out / f"{name}.txt").write_text("\n".join(sorted(values)) + "\n", encoding="utf-8")
        print(name, len(values))


main()
