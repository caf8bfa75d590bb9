"""Changes of a folder's files, of single bytes and of JSON."""

import json
import random
import shutil
from pathlib import Path

from fuzz_changes.common import REWRITTEN, Change, Unchanged, copy, other_value

_KEYS = ("dropout", "suppress_tokens", "forced_decoder_ids", "transformers_weights", "max_length",
         "no_repeat_ngram_size", "repetition_penalty", "num_beams", "do_sample", "dither",
         "suppress_ids", "unk_token", "padding_side", "add_prefix_space", "torch_dtype", "dtype",
         "quantization_config", "begin_suppress_tokens", "attn_implementation", "processor_class",
         "auto_map", "tokenizer_class", "byte_fallback", "end_of_word_suffix", "x")  # fmt: skip


def json_of(name: str) -> Change:
    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        text = (original / name).read_text(encoding="utf-8")
        content = json.loads(text)
        kind = f"{name}: "
        if dice.random() < 0.06:
            copy(original, target, name)
            style = dice.choice([{"indent": 2}, {"sort_keys": isinstance(content, dict)},
                                 {"ensure_ascii": True}])  # fmt: skip
            new = json.dumps(content, **{"ensure_ascii": False} | style)
            (target / name).write_text(new, encoding="utf-8")
            return REWRITTEN, f"{name} {style}"
        table, path = content, [name]
        while True:
            where = dice.choice([*table] if isinstance(table, dict) else range(len(table)))
            path.append(str(where)[:30])
            value = table[where]
            if not isinstance(value, dict | list) or not value or dice.random() < 0.3:
                break
            table = value
        way = dice.choice(["value", "value", "value", "remove", "add", "swap"])
        if way == "remove":
            del table[where]
        elif way == "add":
            if isinstance(table, dict):
                table[dice.choice(_KEYS)] = dice.choice([1, 0.5, True, None, [220], "relu", {}])
            else:
                table.insert(where, value if dice.random() < 0.5 else 7)
        elif way == "swap":
            other = dice.choice([*table] if isinstance(table, dict) else range(len(table)))
            table[where], table[other] = table[other], value
        else:
            table[where] = other_value(value, dice)
        new = json.dumps(content, ensure_ascii=False)
        if json.loads(new) == json.loads(text) and new == json.dumps(
            json.loads(text), ensure_ascii=False
        ):
            raise Unchanged
        copy(original, target, name)
        (target / name).write_text(new, encoding="utf-8")
        return kind + way, "/".join(path[1:])

    return change


def twice(name: str) -> Change:
    """A key that stands twice: some readers take the first, some the last."""

    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        text = (original / name).read_text(encoding="utf-8")
        content = json.loads(text)
        if not isinstance(content, dict):
            raise Unchanged
        key = dice.choice([*content])
        extra = json.dumps({key: other_value(content[key], dice)})[1:-1]
        body = text.strip()
        new = "{" + extra + "," + body[1:] if dice.random() < 0.5 else body[:-1] + "," + extra + "}"
        copy(original, target, name)
        (target / name).write_text(new, encoding="utf-8")
        return f"{name}: a key twice", key

    return change


_MORE = ("vocabulary.txt", "vocab.json", "merges.txt", "special_tokens_map.json", "normalizer.json",
         "added_tokens.json", "processor_config.json", "model.safetensors.index.json",
         "preprocessor_config.json", "generation_config.json", "adapter_config.json", "modeling.py",
         "encoder.onnx.data", "model.bin.1", "hallucination.json", "chat_template.jinja",
         "config.ini", "shared_vocabulary.json", "tokens.txt.bak")  # fmt: skip


def file(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    names = sorted(str(p.relative_to(original)) for p in original.rglob("*") if p.is_file())
    name, way = dice.choice(names), dice.choice(["removed", "empty", "more", "document", "swapped"])
    if way == "more":
        copy(original, target)
        more = dice.choice([m for m in _MORE if m not in names])
        source = dice.choice([n for n in names if n.endswith((".json", ".txt"))] or names)
        content = dice.choice([b"{}", b"[]", b"x\n", (original / source).read_bytes()])
        (target / more).write_bytes(content)
        return "a file more", more
    if way == "document":
        copy(original, target)
        (target / dice.choice(["README.md", "LICENSE", ".gitattributes"])).write_text("hello")
        return REWRITTEN, "a document"
    copy(original, target, name)
    if way == "empty":
        (target / name).touch()
    elif way == "swapped":
        other = dice.choice([n for n in names if n != name])
        shutil.copyfile(original / other, target / name)
    return f"a file {way}", name


def one_byte(name: str | None) -> Change:
    """One byte of a file; most of it is weights."""

    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        copy(original, target, name or "")
        data = bytearray((original / name if name else original).read_bytes())
        at = dice.randrange(len(data)) if dice.random() < 0.7 else dice.randrange(
            min(len(data), 4096))  # fmt: skip
        way = dice.choice(["flipped", "flipped", "removed", "doubled"])
        if way == "flipped":
            data[at] ^= 1 << dice.randrange(8)
        elif way == "removed":
            del data[at]
        else:
            data[at:at] = data[at : at + 1]
        (target / name if name else target).write_bytes(data)
        return f"a byte {way}", f"{name or 'file'} at {at}"

    return change
