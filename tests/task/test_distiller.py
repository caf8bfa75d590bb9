"""`Distiller`: the loss of ESPnet's training, in any loop."""

import pytest
import torch
import torch.distributed as dist
import whisper
from torch.multiprocessing import start_processes
from torch.nn.parallel import DistributedDataParallel as DDP

import espnet_dq as dq
from espnet_dq.config import AugmentConfig, WindowConfig
from espnet_dq.distill.terms import places
from espnet_dq.errors import InputError
from espnet_dq.whisper.forward import log_mel, own_window

OTHERS = {"state": 32, "layers": 3, "mels": 128}  # of the teacher of `build`


@pytest.fixture
def pair(save_toy):
    """The student and the teacher of `build`."""
    return whisper.load_model(str(save_toy(seed=0))), save_toy(seed=1, **OTHERS)


def as_its_batch(batch):
    """A batch of ESPnet's in `Distiller`'s terms."""
    own = {name: value for name, value in batch.items() if name not in ("lang", "utt_id")}
    return own | {"language": batch["lang"][:, 0], "names": batch["utt_id"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "conf",
    [{"matching": "logits"}, {"lambda_encoder": 0.5, "lambda_guide": 0.1},
     {"matching": "static", "tap": "ffn", "timestamp_share": 0.5, "train_encoder": 1}],
)  # fmt: skip
def test_loss_and_gradients_are_those_of_espnets_model(build, batch, pair, conf):
    model = build(window="batch", grid="ct2_int8", **(conf | {"preset": "full"})).train()
    student, teacher = pair
    dq.prepare(student, "ct2_int8")
    distiller = dq.Distiller(
        student, teacher, dq.DistillConfig(**conf), WindowConfig(window="batch")
    )
    for place in places():  # trained parts of terms begin at random
        if (part := getattr(model, place)) is not None:
            getattr(distiller, place).load_state_dict(part.state_dict())
    expected, said, _ = model(**batch)
    loss, stats = distiller.train()(as_its_batch(batch))
    assert torch.equal(loss, expected[0])
    assert stats.keys() == said.keys() and all(float(stats[x]) == float(said[x]) for x in said)
    for each in (loss, expected):
        each.backward()
    theirs = dict(model.named_parameters())
    for name, p in student.named_parameters():
        side, rest = name.split(".", 1)
        other = theirs[f"{side}.net.{rest}"]
        assert p.requires_grad == other.requires_grad, name
        if other.grad is not None:
            assert torch.equal(p.grad, other.grad), name


@pytest.mark.slow
def test_it_trains_what_is_exported(pair, tmp_path):
    student, teacher = pair
    dq.prepare(student, "uniform4", ranges="lsq")
    distiller = dq.Distiller(student, teacher, window=WindowConfig(window="batch"))
    noise = torch.randn(3, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    batch = distiller.batch([(noise[0], "good morning", "en"), (noise[1, :6000], "ciao", "it")])
    assert batch["speech"].shape == (2, 8000) and batch["speech_lengths"].tolist() == [8000, 6000]
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss, _ = distiller(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert not [name for name in distiller.state_dict() if "teacher" in name]
    path = dq.save(student, tmp_path / "student.safetensors")
    assert dq.verify(path, against=student).mismatched == 0


@pytest.mark.slow
@pytest.mark.parametrize("place", ["espnet", "distiller"])
def test_the_student_hears_changed_speech_and_the_teacher_hears_it_clean(
    place, build, batch, pair, monkeypatch
):
    conf = {"matching": "logits", "alpha": 0.5}
    if place == "espnet":
        model, mine = build(window="full", **conf).train(), batch
        student, frozen = model.encoder.net, model.teacher.model()
    else:
        student, teacher = pair
        model = dq.Distiller(student, teacher, dq.DistillConfig(**conf), WindowConfig("full"))
        model, mine = model.train(), as_its_batch(batch)
        student, frozen = student.encoder, model.teacher.model()
    mels = {}
    for name, encoder in (("student", student), ("teacher", frozen.encoder)):
        encoder.conv1.register_forward_hook(
            lambda module, given, out, name=name: mels.__setitem__(name, given[0])
        )
    heard = batch["speech"].flip(0)
    changed = {"heard": heard, "heard_lengths": batch["speech_lengths"].flip(0)}
    loss = [model(**b)[0] if place == "espnet" else model(b)[0] for b in (mine, mine | changed)]
    assert not torch.equal(*loss)
    for name, audio, lengths in (
        ("student", *changed.values()), ("teacher", batch["speech"], batch["speech_lengths"])
    ):  # fmt: skip
        mel = mels[name]
        assert torch.equal(mel, log_mel(audio, lengths, mel.shape[1], 160 * mel.shape[2])), name


@pytest.mark.slow
def test_clips_are_changed_in_training_alone(pair):
    student, teacher = pair
    clip, window = torch.randn(8000) * 0.1, WindowConfig("full")
    distiller = dq.Distiller(student, teacher, window=window, augment=AugmentConfig(speed=1.0))
    assert distiller.augment.longest == own_window(student.dims)
    batch = distiller.train().batch([(clip, "hello", "en"), (clip[:4000], "hello", "en")])
    assert batch["speech_lengths"].tolist() == [8000, 4000]
    assert batch["heard_lengths"].tolist() != [8000, 4000]
    assert torch.isfinite(distiller(batch)[0])
    plain = {name: value for name, value in batch.items() if not name.startswith("heard")}
    with pytest.raises(InputError, match="the batch has no changed clips"):
        distiller(plain)
    distiller.eval()
    assert torch.equal(distiller(batch)[0], distiller(plain)[0])
    for conf in ({"timestamp_share": 0.1}, {"lambda_encoder": 0.1}, {"teacher_window": "student"}):
        with pytest.raises(InputError, match="speed moves words away"):
            dq.Distiller(student, teacher, dq.DistillConfig(**conf),
                         augment=AugmentConfig(speed=1.0))  # fmt: skip
    with pytest.raises(InputError, match="augment needs an encoder that is trained"):
        dq.Distiller(student, teacher, dq.DistillConfig(train_encoder="none"),
                     augment=AugmentConfig(noise=0.1))  # fmt: skip


@pytest.mark.slow
def test_loaders_change_clips_whatever_mode_the_module_is_in(make_toy):
    """Regression: batches are fetched while it is still in that of dev."""
    net = make_toy(state=32, layers=1, text_ctx=32, audio_ctx=100)
    config = dq.DistillConfig(alpha=0, matching="logits")
    distiller = dq.Distiller(net, None, config, augment=AugmentConfig(noise=1.0)).eval()
    clips = [(torch.randn(1600) * 0.1, "hello", "en")] * 2
    loader = torch.utils.data.DataLoader(clips, collate_fn=distiller.batch)
    for batch in loader:
        assert not torch.equal(batch["heard"], batch["speech"])
        assert torch.isfinite(distiller.train()(batch)[0])


def in_a_group(rank: int, folder: str, net, distiller, batches) -> None:
    """A step in one of two processes, each with a batch of its own."""
    torch.set_num_threads(1)  # others are not there after a fork
    dist.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    DDP(net)
    model = DDP(distiller)
    model(batches[rank])[0].backward()
    gradients = {name: p.grad for name, p in distiller.named_parameters()}
    torch.save(gradients, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_go_on_together(make_toy, save_toy, tmp_path):
    """Regression: DistributedDataParallel cannot broadcast the sparse table of alignment heads."""
    import torch._dynamo  # takes seconds, and DistributedDataParallel asks for it

    sizes = {"state": 32, "layers": 1, "text_ctx": 32, "audio_ctx": 100}
    net = dq.prepare(make_toy(**sizes), "uniform4", "encoder")
    distiller = dq.Distiller(make_toy(**sizes), save_toy(seed=1, **sizes))
    batches = [distiller.batch([(clip, "hello", "en")]) for clip in torch.randn(2, 1600) * 0.1]
    given = (str(tmp_path), net, distiller, batches)
    start_processes(in_a_group, given, nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert "projector.weight" in one and one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["student.decoder.blocks.0.mlp.2.weight"].any()


@pytest.mark.slow
def test_what_does_not_fit_is_one_line(pair, tmp_path):
    student, teacher = pair
    for arguments, message in (
        ((torch.nn.Linear(2, 2), teacher), "a Linear is no model of openai-whisper"),
        ((student, None), "alpha above 0 needs a teacher"),
        ((student, tmp_path / "none.pt"), r"none\.pt: no such teacher file"),
        ((student, teacher, dq.DistillConfig(train_encoder=3)), "up to 2 blocks"),
        ((student, teacher, dq.DistillConfig(train_encoder="none", lambda_encoder=1)),
         "the encoder term needs an encoder that is trained"),
        ((student, teacher, dq.DistillConfig(terms={"x": 1})), "'x' is no further term"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            dq.Distiller(*arguments)
    alone = dq.Distiller(student, None, dq.DistillConfig(alpha=0, matching="logits"))
    loss, stats = alone(alone.batch([(torch.zeros(4000), "hello", "en")]))
    assert torch.equal(loss, stats["loss_ce"])
    clip, fine = torch.zeros(4000), ([0.1] * 4000, "hello", "en")
    for example, message in (
        ((clip, "hello", "xx"), "unknown language 'xx'"),
        ((clip, "hello", None), "language: None is not one of Whisper's codes"),
        ((clip, None, "en"), "text: None is not a text"),
        ((clip, " ", "en"), "text: is empty"),
        ((clip, "hello"), r"a tuple is not \(audio, text, language\)"),
        (("a.wav", "hello", "en"), r"audio: 'a\.wav' is not \(samples,\)"),
        ((clip[None], "hello", "en"), r"audio: float32 \(1, 4000\) is not \(samples,\) of floats"),
        ((clip[:0], "hello", "en"), r"audio: float32 \(0,\) is not"),
        ((clip.to(torch.int16), "hello", "en"), r"audio: int16 \(4000,\) is not"),
        ((clip.log(), "hello", "en"), "audio: not all samples are finite"),
    ):
        with pytest.raises(InputError, match=f"^example 1: {message}"):
            alone.batch([fine, example])
    with pytest.raises(InputError, match="a batch of no examples"):
        alone.batch([])


def test_what_a_teacher_or_a_loop_cannot_be(pair, save_toy):
    student, teacher = pair
    with pytest.raises(InputError, match="hears shorter windows than its student"):
        dq.Distiller(student, save_toy(seed=1, audio_ctx=750, **OTHERS))
    distiller = dq.Distiller(student, teacher)
    batch = distiller.batch([(torch.zeros(16000), "ja", "de")])
    distiller.student.to("meta")  # as to a GPU: loaders pin what is on the CPU
    again = distiller.batch([(torch.zeros(16000), "ja", "de")])
    assert all(x.device.type == "cpu" for x in again.values() if isinstance(x, torch.Tensor))
    distiller._is_replica = True  # as torch.nn.DataParallel marks its copies
    with pytest.raises(InputError, match="a process for each GPU"):
        distiller(batch)


def test_auto_needs_a_decoder_that_learns(pair):
    student, teacher = pair
    student.decoder.requires_grad_(False)
    config = dq.DistillConfig(lambda_hidden="auto", matching="static")
    distiller = dq.Distiller(student, teacher, config).train()
    batch = distiller.batch([(torch.zeros(16000), "ja", "de")])
    with pytest.raises(InputError, match="lambda_hidden: auto: nothing of the decoder learns"):
        for _ in range(9):
            distiller(batch)
