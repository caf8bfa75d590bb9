"""Training configurations whose single keys options set."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from espnet_dq.config import QuantConfig, merge, parse_keys, read_config
from espnet_dq.errors import InputError
from espnet_dq.fetch.sources import MODELS
from espnet_dq.quant.table import read_grid

# Keys of a training that dq.sh decides, whatever a configuration says.
SET = (
    *("config", "output_dir", "init_param", "resume", "dry_run", "collect_stats", "print_config"),
    *("token_list", "token_type", "bpemodel", "allow_variable_data_keys", "num_att_plot"),
    *(f"{side}_{what}" for side in ("train", "valid")
      for what in ("data_path_and_name_and_type", "shape_file")),
    *("seed", "ngpu", "encoder_conf.dims", "encoder_conf.padding", "decoder_conf.dims"),
    *("log_level", "preprocessor_conf.n_audio_ctx"),
    *("model_conf.teacher", "model_conf.teacher_dims", "model_conf.grid"),
)  # fmt: skip


def set_keys(o: Mapping[str, str], part: str, caller: str) -> dict:
    """The keys of a training that options set.

    A file that a key names may lie in the recipe's folder, or in that of the `caller`.
    """
    option = f"--{part}_args"
    keys = parse_keys(o[option.removeprefix("--")], option)
    if o["patience"]:
        _set(keys, "patience", int(o["patience"]), f"{option}: patience: --patience")
    if o["lr"] and part == "train":
        optim = keys.setdefault("optim_conf", {})
        _set(optim, "lr", float(o["lr"]), f"{option}: optim_conf.lr: --lr")
    quant = keys.get(QuantConfig.SECTION)
    ranges = quant.get("activation_ranges") if isinstance(quant, dict) else None
    elsewhere = os.path.abspath(caller) != os.getcwd()
    if elsewhere and isinstance(ranges, str) and not os.path.isfile(ranges):
        quant["activation_ranges"] = os.path.abspath(os.path.join(caller, ranges))
    return keys


def _set(place: dict, key: str, value: float, who: str) -> None:
    if not isinstance(place, dict) or key in place:
        raise InputError(f"{who} sets it, too")
    place[key] = value


def changed(o: Mapping[str, str], part: str, exp: str, caller: str) -> str:
    """The configuration of a training with what options set, checked before any work; or ""."""
    config, option = o[f"{part}_config"], f"--{part}_args"
    whole, keys = read_config(config), set_keys(o, part, caller)
    for key in SET:
        section, _, last = key.rpartition(".")
        place = keys.get(section) if section else keys
        if isinstance(place, dict) and last in place:
            raise InputError(f"{option}: {key}: that is set by the recipe")
    merge(whole, keys, f"{option}: ")
    if not keys:
        return ""
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    if not os.path.exists(f"{exp}/settings"):  # else it was checked, or dq.sh refuses to change it
        from espnet_dq.api.models import load
        from espnet_dq.task.check import check, sizes  # imports ESPnet

        models = (
            sizes(o[m]) if o[m] in MODELS else load(o[m], keep=False).weights.without_added().dims
            for m in ("student", "teacher")
        )
        processes = max(1, int(o["ngpu"])) * int(o["num_nodes"])
        with TemporaryDirectory() as folder:
            file = Path(folder, os.path.basename(config))
            file.write_text(text, encoding="utf-8")
            try:
                check(file, *models, read_grid(o["grid"]), processes)
            except InputError as e:
                said = f"{config} with {option}" if o[option.removeprefix("--")] else config
                raise InputError(str(e).replace(str(file), said)) from e
    return text
