"""Writes numbers of India, Europe and the United States in sentences, right ones and near misses, as JSONL like generate.py.

python3 test/bench/pii/own.py N SEED > FILE      (needs faker and python-stdnum)

The numbers are made by those two, not by Aran. A near miss has one digit changed where a check digit would tell; it has no span.
"""
import json
import random
import sys

from faker import Faker
from stdnum import luhn, verhoeff
from stdnum.eu import vat
from stdnum.in_ import gstin

n, seed = int(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
Faker.seed(seed)
fake = {l: Faker(l) for l in "en_IN en_US en_GB de_DE fr_FR es_ES it_IT nl_NL nl_BE pl_PL".split()}
R = random


def digits(k, first="0123456789"):
    return R.choice(first) + "".join(R.choice("0123456789") for _ in range(k - 1))


def letters(k, of="ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
    return "".join(R.choice(of) for _ in range(k))


def groups(s, *sizes, sep=" "):
    out, at = [], 0
    for size in sizes:
        out.append(s[at : at + size])
        at += size
    return sep.join(out)


def aadhaar():
    s = digits(11, "23456789")
    s += verhoeff.calc_check_digit(s)
    return R.choice([s, groups(s, 4, 4, 4), groups(s, 4, 4, 4, sep="-")])


def pan():
    return letters(3) + R.choice("PCHFATBLJG") + letters(1) + digits(4) + letters(1)


def gst():
    s = R.choice(["27", "33", "29", "07", "09"]) + pan() + R.choice("123") + "Z"
    table = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return next(s + c for c in table if gstin.is_valid(s + c))


def plate():
    s = [R.choice(["TN", "KA", "MH", "DL", "KL", "AP", "GJ"]), "%02d" % R.randint(1, 99), letters(R.randint(1, 2), "ABCDEFGHJKLMNPQRSTUVWXYZ"), digits(4, "123456789")]
    return R.choice(["", " ", "-"]).join(s)


def card():
    s = fake["en_US"].credit_card_number(R.choice(["visa16", "mastercard", "amex", "discover", "jcb16"]))
    if len(s) == 16:
        return R.choice([s, groups(s, 4, 4, 4, 4), groups(s, 4, 4, 4, 4, sep="-")])
    return s


def eu_vat():
    for _ in range(2000):
        s = R.choice([lambda: "DE" + digits(9, "123456789"), lambda: "IT" + digits(11), lambda: "PL" + digits(10, "123456789"), lambda: "FR" + digits(11), lambda: "BE0" + digits(9, "4567"), lambda: "ATU" + digits(8), lambda: "DK" + digits(8, "123456789")])()
        if vat.is_valid(s):
            return s
    return "DE136695976"


def npi():
    s = "1" + digits(8)
    return s + luhn.calc_check_digit("80840" + s)


def imei():
    s = digits(14, "3589")
    return s + luhn.calc_check_digit(s)


def routing():
    s = R.choice(["02", "03", "06", "11", "12", "26", "31"]) + digits(6)
    total = sum(int(c) * w for c, w in zip(s, (3, 7, 1, 3, 7, 1, 3, 7)))
    return s + str(-total % 10)


def nhs():
    while True:
        s = digits(9, "4679")
        c = 11 - sum(int(d) * w for d, w in zip(s, range(10, 1, -1))) % 11
        if c != 10:
            return R.choice([lambda x: x, lambda x: groups(x, 3, 3, 4)])(s + str(c % 11))


def mbi():
    l, a = "ACDEFGHJKMNPQRTUVWXY", "ACDEFGHJKMNPQRTUVWXY0123456789"
    s = digits(1, "123456789") + letters(1, l) + letters(1, a) + digits(1) + letters(1, l) + letters(1, a) + digits(1) + letters(2, l) + digits(2)
    return R.choice([s, groups(s, 4, 3, 4, sep="-")])


def nino():
    s = letters(1, "ABCEGHJKLMOPRSTWXYZ")
    s += letters(1, "ABCEGHJKLMPRSTWXYZ")
    if s in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"):
        s = "AB"
    s += digits(6) + letters(1, "ABCD")
    return R.choice([s, groups(s, 2, 2, 2, 2, 1), groups(s, 2, 6, 1)])


def indian_phone():
    s = digits(10, "6789")
    return R.choice([s, "+91 " + groups(s, 5, 5), "+91-" + s, "+91" + s, groups(s, 5, 5), "0" + s])


def us_phone():
    a, b, c = digits(1, "23456789") + digits(2, "02345678"), digits(1, "23456789") + digits(2, "02345678"), digits(4)
    return R.choice(["({}) {}-{}", "{}-{}-{}", "{}.{}.{}", "+1 {} {} {}", "+1-{}-{}-{}"]).format(a, b, c)


FREE = ["I was told to send {} to you.", "Please check {} again, it did not work", "Here it is: {}", "We have {} on file; is that still right?", "{}"]
# kind, maker, words that name it, whether its form alone is enough, whether a digit tells a near miss
KINDS = [
    ("pii.aadhaar", aadhaar, ["My Aadhaar number is {}.", "aadhaar: {}", "UIDAI no. {} (father)"], False, True),
    ("pii.pan", pan, ["PAN {}", "my PAN card is {}", "Please quote {} as your PAN."], True, False),
    ("pii.gstin", gst, ["GSTIN: {}", "Bill to {} please"], True, True),
    ("pii.ifsc", lambda: R.choice(["HDFC", "ICIC", "SBIN", "UTIB", "KKBK"]) + "0" + digits(6), ["IFSC {}", "transfer by NEFT, code {}"], True, False),
    ("pii.upi", lambda: fake["en_IN"].user_name() + "@" + R.choice(["okaxis", "oksbi", "ybl", "paytm", "okicici"]), ["pay to {} please", "UPI id {}"], True, False),
    ("pii.vehicle", plate, ["My car {} was towed.", "vehicle number {}"], True, False),
    ("pii.driving_licence", lambda: R.choice(["TN", "KA", "MH"]) + digits(2, "012") + R.choice(["", " "]) + R.choice(["19", "20"]) + digits(9), ["driving licence {}", "DL no. {}"], True, False),
    ("pii.voter_id", lambda: letters(3) + digits(7), ["voter id {}", "EPIC number: {}"], False, False),
    ("pii.passport", lambda: R.choice("ABHJKLMNPRSTUVWZ") + digits(7, "123456789"), ["passport number {}", "My passport {} expires soon."], False, False),
    ("pii.phone", indian_phone, ["call me on {}", "Mobile: {}", "my number {} is on WhatsApp"], False, False),
    ("pii.phone", us_phone, ["call me at {}", "phone {}"], True, False),
    ("pii.card", card, ["my card is {}", "charge {} please", "Credit card: {}"], True, True),
    ("pii.iban", lambda: fake[R.choice(["de_DE", "fr_FR", "nl_NL", "it_IT", "es_ES", "en_GB"])].iban(), ["IBAN {}", "send it to {}"], True, True),
    ("pii.email", lambda: fake["en_IN"].email(), ["mail {}", "write to {} please"], True, False),
    ("pii.ssn", lambda: fake["en_US"].ssn(), ["SSN {}", "my social security number is {}"], True, False),
    ("pii.itin", lambda: fake["en_US"].itin(), ["ITIN {}", "taxpayer number {}"], True, False),
    ("pii.ein", lambda: fake["en_US"].ein(), ["EIN {}", "employer id {}"], False, False),
    ("pii.routing", routing, ["routing number {}", "ABA {} for the wire"], False, True),
    ("pii.npi", npi, ["NPI {}", "provider number {}"], False, True),
    ("pii.mbi", mbi, ["Medicare number {}", "MBI: {}"], True, False),
    ("pii.imei", imei, ["IMEI {}", "the handset's IMEI is {}"], False, True),
    ("pii.tax_id", lambda: fake["it_IT"].ssn(), ["codice fiscale {}", "CF: {}"], True, False),
    ("pii.national_id", lambda: fake["es_ES"].nif(), ["DNI {}", "mi DNI es {}"], True, False),
    ("pii.national_id", lambda: fake["es_ES"].nie(), ["NIE {}"], True, False),
    ("pii.national_id", lambda: fake["fr_FR"].ssn(), ["NIR {}", "numéro INSEE {}"], True, True),
    ("pii.national_id", lambda: fake["nl_NL"].ssn(), ["BSN {}", "burgerservicenummer: {}"], False, True),
    ("pii.national_id", lambda: fake["pl_PL"].pesel(), ["PESEL {}"], False, True),
    ("pii.national_id", lambda: fake["nl_BE"].ssn(), ["rijksregisternummer {}"], False, True),
    ("pii.national_id", nino, ["national insurance number {}", "NI number {}"], True, False),
    ("pii.health_id", nhs, ["NHS number {}", "patient {} (NHS)"], False, True),
    ("pii.vat", eu_vat, ["VAT {}", "USt-IdNr. {}", "invoice with VAT number {}"], True, True),
    ("pii.ip", lambda: fake["en_US"].ipv4_public(), ["from {} at night", "IP {}"], True, False),
    ("pii.ip", lambda: fake["en_US"].ipv6(), ["from {} at night"], True, False),
    ("pii.mac", lambda: fake["en_US"].mac_address(), ["device {}", "MAC {}"], True, False),
]
# What is nobody's, and looks as if it were.
NOTHING = [
    lambda: f"Order {digits(10, '12345')} of {fake['en_US'].date()} has {digits(2)} parts.",
    lambda: f"Version {R.randint(1, 9)}.{R.randint(0, 20)}.{R.randint(0, 40)} came on {fake['de_DE'].date('%d.%m.%Y')}.",
    lambda: f"Rs. {R.randint(1, 99)},{digits(3)},{digits(3)}.00 was paid.",
    lambda: f"Ticket #{digits(9)} is closed.",
    lambda: f"Build {fake['en_US'].sha1()} passed in {R.randint(1, 999)}.{digits(3)} s.",
    lambda: f"id {fake['en_US'].uuid4()} not found",
    lambda: f"Part AB-{digits(4)}-{letters(2)} costs {digits(3)} EUR.",
    lambda: f"At {fake['en_US'].time()} the value was {R.random():.8f}.",
    lambda: f"The years {R.randint(1900, 1999)} to {R.randint(2000, 2026)} saw {digits(7, '123')} visitors.",
    lambda: f"ISBN 978-{digits(1)}-{digits(4)}-{digits(4)}-{digits(1)}, page {digits(3)}.",
    lambda: f"Timestamp {digits(13, '1')} in the log, offset {digits(8)}.",
    lambda: f"x = [{digits(4)}, {digits(4)}, {digits(4)}, {digits(4)}]",
]


def miss(s):
    """The last digit but one is another one."""
    at = [i for i, c in enumerate(s) if c.isdigit()][-1]
    return s[:at] + str((int(s[at]) + R.randint(1, 8)) % 10) + s[at + 1 :]


def write(text, spans):
    print(json.dumps({"text": text, "spans": spans}, ensure_ascii=False))


for _ in range(n):
    for kind, make, named, free, tells in KINDS:
        value = make()
        template = R.choice(named + (FREE if free else []))
        at = template.index("{}")
        write(template.replace("{}", value), [{"kind": kind, "start": at, "end": at + len(value)}])
        if tells:
            write(R.choice(named).replace("{}", miss(make())), [])
    for make in NOTHING:
        write(make(), [])
