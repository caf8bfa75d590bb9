"""The one configuration: what it refuses, and that nothing else has a default of its keys."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import espnet_dq
from espnet_dq.config import AugmentConfig, DistillConfig, QuantConfig, WindowConfig
from espnet_dq.errors import InputError

CONFIGS = (DistillConfig, QuantConfig, WindowConfig, AugmentConfig)
KEYS = {key: config.__name__ for config in CONFIGS for key in config.names()}
PACKAGE = Path(espnet_dq.__file__).parent
# Words of the same spelling: how languages are mixed, a model in float, integers that stay, what a
# file was made on, all that there is to say of windows.
OTHERS = {
    ("data/pack.py", "temperature"),
    ("bin/arguments.py", "temperature"),
    ("report/size.py", "preset"),
    ("bin/convert.py", "grid"),
    ("api/models.py", "grid"),
    ("api/verification.py", "grid"),
    ("distill/distiller.py", "window"),
}


def defaults(tree: ast.AST):
    """(key, node of its default) wherever a program says what a missing key stands for."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(args=args) | ast.Lambda(args=args):
                given = [*args.posonlyargs, *args.args]
                yield from zip(given[len(given) - len(args.defaults) :], args.defaults, strict=True)
                yield from zip(args.kwonlyargs, args.kw_defaults, strict=True)
            case ast.ClassDef(body=body):
                yield from ((f.target, f.value) for f in body if isinstance(f, ast.AnnAssign))
            case ast.Call(func=ast.Attribute(attr="get" | "pop" | "setdefault"), args=[key, value]):
                yield key, value
            case ast.Call(func=ast.Name(id="getattr"), args=[_, key, value]):
                yield key, value
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=[*_, key]):
                yield from ((key, k.value) for k in node.keywords if k.arg == "default")


def second_defaults(source: str, file: str) -> list[str]:
    """Where a program has a default of its own for a configuration's key."""
    found = []
    for key, value in defaults(ast.parse(source)):
        match key:
            case ast.arg(arg=name) | ast.Name(id=name):
                pass
            case ast.Constant(value=str(text)):
                name = text.lstrip("-")
            case _:
                continue
        if value is None or name not in KEYS or (file, name) in OTHERS:
            continue
        if ast.unparse(value) != f"{KEYS[name]}.{name}":
            found.append(f"{file}:{value.lineno}: {name} = {ast.unparse(value)}")
    return found


@pytest.mark.slow
def test_no_key_has_a_second_default():
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "config.py"]
    assert len(files) > 100
    found = [
        line
        for path in files
        for line in second_defaults(
            path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE))
        )
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "def f(a, tap='block'): pass",
        "def f(*, precision: str = 'float32'): pass",
        "class A:\n    padding: str = 'zeros'",
        "model.get('preset', 'full')",
        "getattr(model, 'alpha', 0.9)",
        "parser.add_argument('--padding', default='zeros')",
        "f = lambda window='random': window",
        "def f(preset=WindowConfig.padding): pass",
    ],
)
def test_a_second_default_is_seen(source):
    assert len(second_defaults(source, "x.py")) == 1


def test_taken_from_the_configuration_is_no_second_default():
    source = "def f(tap, grid=QuantConfig.grid): pass\nmodel.get('window')\nmodel.get('name', 1)"
    assert not second_defaults(source, "x.py")


@pytest.mark.parametrize(
    ("config", "values", "said"),
    [
        (DistillConfig, {"matching": "best"}, "unknown matching 'best': known are logits, static"),
        (DistillConfig, {"matching": ["static"]}, "matching: a list is not a name"),
        (DistillConfig, {"tap": "x" * 1000}, "unknown tap '" + "x" * 40 + "...': known are block"),
        (DistillConfig, {"alpha": 1.5}, "alpha: 1.5 is not a number of 0 to 1"),
        (DistillConfig, {"alpha": True}, "alpha: True is not a number"),
        (DistillConfig, {"temperature": 0}, "temperature: 0 is not above 0"),
        (DistillConfig, {"temperature": float("nan")}, "temperature: nan is not a number"),
        (DistillConfig, {"temperature": "1"}, "temperature: '1' is not a number of 0 or more"),
        (DistillConfig, {"lambda_hidden": -1}, "lambda_hidden: -1 is neither a number nor auto"),
        (DistillConfig, {"lambda_encoder": "auto"}, "lambda_encoder: 'auto' is not a number"),
        (DistillConfig, {"timestamp_share": 20}, "timestamp_share: 20 is not a number of 0 to 1"),
        (DistillConfig, {"train_encoder": -1}, "train_encoder: -1 is not all, none or a number"),
        (DistillConfig, {"train_encoder": True}, "train_encoder: True is not all, none"),
        (DistillConfig, {"teacher_window": "half"}, "unknown teacher_window 'half': known are"),
        (DistillConfig, {"terms": [1]}, "terms: a list is no mapping"),
        (DistillConfig, {"terms": {"mine": "much"}}, "terms: 'mine': 'much' is not a number"),
        (DistillConfig, {"terms": {"guide": 1}}, "terms: guide has a key of its own, lambda_guide"),
        (QuantConfig, {"grid": 8}, "grid: 8 is not a name"),
        (QuantConfig, {"grid": {"a.weight": 4}}, "'a.weight': 4 is not a name"),
        (QuantConfig, {"preset": "half"}, "unknown preset 'half': known are full, paper"),
        (QuantConfig, {"activations": "int8_static"}, "activations int8_static: activation_ranges"),
        (QuantConfig, {"activation_ranges": "r.json"}, "activations none: activation_ranges"),
        (QuantConfig, {"activation_ranges": 3, "activations": "int8_static"}, "3 is no path"),
        (WindowConfig, {"window": "half"}, "unknown window 'half': known are full, batch, random"),
        (WindowConfig, {"window": []}, "unknown window a list"),
        (WindowConfig, {"window": [5, 0]}, "unknown window a list"),
        (WindowConfig, {"window": float("inf")}, "unknown window inf"),
        (WindowConfig, {"padding": None}, "padding: None is not a name"),
        (AugmentConfig, {"voice": -0.1}, "voice: -0.1 is not a number of 0 to 1"),
        (AugmentConfig, {"line": "amr"}, "line: 'amr' is not a number of 0 to 1"),
    ],
)
def test_a_mistake_names_its_key(config, values, said, tmp_path):
    with pytest.raises(InputError) as caught:
        config.from_mapping(values)
    assert str(caught.value).startswith(said) or said in str(caught.value)
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({config.SECTION: values}))
    with pytest.raises(InputError) as told:
        config.from_yaml(path)
    assert str(told.value) == f"{path}: {config.SECTION}: {caught.value}"


def test_a_number_without_bounds_is_named(tmp_path):
    """Python prints none of 5000 digits, and makes no float of 400."""
    with pytest.raises(InputError, match="temperature: a huge number is not a number"):
        DistillConfig.from_mapping({"temperature": 10**400})
    path = tmp_path / "train.yaml"
    path.write_text(f"model_conf:\n  temperature: 1{'0' * 400}\n")
    with pytest.raises(InputError, match=rf"{path}:2: a number of more than 64 bits"):
        DistillConfig.from_yaml(path)


def test_a_training_configuration_is_read_strictly(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("model_conf: {tap: ffn, preset: paper, teacher: t.pt}\n")
    assert DistillConfig.from_yaml(path) == DistillConfig(tap="ffn")
    assert QuantConfig.from_yaml(path) == QuantConfig(preset="paper")
    assert WindowConfig.from_yaml(path) == WindowConfig()
    path.write_text("model_conf: {lamda_hidden: 1}\nencoder_conf: {windows: full}\n")
    for config, said in (
        (QuantConfig, "model_conf: unknown key 'lamda_hidden': known are teacher, "),
        (WindowConfig, "encoder_conf: unknown key 'windows': known are input_size, "),
    ):
        with pytest.raises(InputError, match=f"^{path}: {said}"):
            config.from_yaml(path)
    path.write_text("model_conf: [tap]\n")
    with pytest.raises(InputError, match=f"^{path}: model_conf is not a mapping"):
        DistillConfig.from_yaml(path)


def test_reading_it_imports_no_torch():
    code = "import sys, espnet_dq.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["train", "qat", "joint"])
def test_defaults_are_the_recipes(name):
    """So what an API user or a short file leaves out is what the recipe trains with."""
    content = yaml.safe_load((PACKAGE / f"../egs2/dq_whisper/asr1/conf/{name}.yaml").read_text())
    for config in (DistillConfig, WindowConfig):
        own = vars(config())
        said = {k: v for k, v in content[config.SECTION].items() if k in own}
        assert said and said == {key: own[key] for key in said}
