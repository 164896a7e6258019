"""The script of a text: every block has one, and most of the letters' bytes decide."""

import pyarrow as pa
import pytest

from didact.text.scripts import SCRIPTS, script_of

TEXTS = {
    "Latin": ["Where is the café?", "größer", "Tiếng Việt", "a", "x = 5"],
    "Cyrillic": ["Где кафе?", "Україна і світ"],
    "Greek": ["Πού είναι το καφέ;"],
    "Arabic": ["أين المقهى؟", "کتاب خوب"],
    "Hebrew": ["איפה בית הקפה"],
    "Devanagari": ["कैफ़े कहाँ है?"],
    "Thai": ["ร้านกาแฟอยู่ที่ไหน"],
    "Han": ["咖啡馆在哪里？", "在 GNU/Linux 上安装软件包的方法如下"],
    "Kana": ["カフェはどこですか", "最新情報を東京都庁前広場で確認"],
    "Hangul": ["카페가 어디에 있습니까"],
    "Georgian": ["სად არის კაფე"],
    "Tamil": ["கஃபே எங்கே"],
    "no letters": ["", "12 + 34 = 46", "🙂👍", "—!?"],
}


@pytest.mark.parametrize("script", TEXTS)
def test_the_script_of_a_text(script: str) -> None:
    found = script_of(pa.array([*TEXTS[script], None], pa.large_string()))
    assert [SCRIPTS[i] for i in found[:-1]] == [script] * len(TEXTS[script])
    assert SCRIPTS[found[-1]] == "no letters"


def test_a_batch_is_its_texts() -> None:
    texts = [text for some in TEXTS.values() for text in some]
    together = script_of(pa.array(texts, pa.large_string()))
    alone = [int(script_of(pa.array([text], pa.large_string()))[0]) for text in texts]
    assert together.tolist() == alone


def test_bytes_and_not_characters_decide() -> None:
    mixed = "install package 安装软件包"  # 14 letters of one byte, 5 of three
    assert SCRIPTS[script_of(pa.array([mixed], pa.large_string()))[0]] == "Han"
