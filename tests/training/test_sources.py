"""Questions from files in SQuAD's own form."""

import json

import sources

TEXT = "Ada wrote the first program in 1843. She was paid nothing for it."


def _file(folder, *asked, text=TEXT):
    qas = [
        {
            "id": str(place),
            "question": question,
            "answers": [{"text": a, "answer_start": text.find(a)} for a in answers],
        }
        for place, (question, *answers) in enumerate(asked)
    ]
    file = folder / "some_v1.json"
    told = {"data": [{"title": "Ada_Lovelace", "paragraphs": [{"context": text, "qas": qas}]}]}
    file.write_text(json.dumps(told), encoding="utf-8")
    return file


def test_of_several_answers_that_one_counts_which_the_others_agree_with(data, tmp_path):
    file = _file(tmp_path, ("When was it written?", "in 1843", "1843", "1843", "the first program in 1843"))
    [question] = [item for item in sources.read(data, [file]).short if item.source == "some_v1"]
    assert question.answers == ("1843",)
    assert question.evidence == ("Ada wrote the first program in 1843.",)
    assert question.passages[0].title == "Ada Lovelace"


def test_a_question_that_nobody_agrees_about_is_left_out(data, tmp_path):
    file = _file(tmp_path, ("What of it?", "Ada", "first program", "1843", "nothing", "paid"), ("Why?",))
    assert not [item for item in sources.read(data, [file]).short if item.source == "some_v1"]


def test_a_question_is_read_once_though_two_files_hold_it(data, tmp_path):
    file = _file(tmp_path, ("Who wrote it?", "Ada"))
    one = sources.read(data, [file]).short
    assert len(sources.read(data, [file, file]).short) == len(one)
