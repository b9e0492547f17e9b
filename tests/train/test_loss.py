"""The chunked loss against the ordinary one, and packed rows against rows of their own, on a tiny Gemma 3 in float32."""

import numpy as np
import pytest
import torch

from tests.train.test_selfcheck import WINDOW, adapted, tiny
from train.loss import answer_loss
from train.packing import IGNORED, Encoded, collate

SIZES = (70, 55, 3, 61)
"""Tokens of the examples: more than two of them are longer than the sliding window."""


@pytest.fixture(scope="module")
def examples():
    draw = np.random.default_rng(3)
    return [Encoded(draw.integers(1, 300, size, dtype=np.int32), size // 4) for size in SIZES]


@pytest.fixture(params=[False, True], ids=["bare", "adapter"])
def model(request):
    return adapted(tiny()) if request.param else frozen_head(tiny())


def frozen_head(model):
    model.get_output_embeddings().requires_grad_(False)
    return model


def gradients(model, loss):
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def difference(a, b):
    return float((a - b).norm() / b.norm())


def rows_of(examples, rows, length=None):
    return collate(examples, rows, length or max(sum(len(examples[i]) for i in row) for row in rows))


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_it_is_the_ordinary_loss(model, examples, chunk):
    batch = rows_of(examples, [[0, 2], [1], [3]], length=80)
    total, count = answer_loss(model, batch, chunk)
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    assert count == sum(len(e) - max(e.learned_from, 1) for e in examples)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    assert difference(gradients(model, total), gradients(model, expected)) < 1e-5


def test_packed_examples_do_not_see_one_another(model, examples):
    assert max(SIZES) > 2 * WINDOW
    packed, count = answer_loss(model, rows_of(examples, [[0, 1], [2, 3]]))
    alone = [answer_loss(model, rows_of(examples, [[i]])) for i in range(len(examples))]
    assert count == sum(number for _, number in alone)
    together = sum(loss for loss, _ in alone)
    assert float(packed) == pytest.approx(float(together), rel=1e-5)
    assert difference(gradients(model, packed), gradients(model, together)) < 1e-5


def test_padding_changes_nothing(model, examples):
    short, long = (answer_loss(model, rows_of(examples, [[0], [2]], length))[0] for length in (70, 128))
    assert float(short) == pytest.approx(float(long), rel=1e-6)
    assert difference(gradients(model, short), gradients(model, long)) < 1e-5


def test_a_batch_with_nothing_to_learn_still_has_a_gradient(examples):
    model = adapted(tiny())
    batch = rows_of(examples, [[0]])
    total, count = answer_loss(model, batch | {"labels": torch.full_like(batch["labels"], IGNORED)})
    assert (float(total), count) == (0, 0)
    total.backward()


def test_a_head_that_trains_is_refused(examples):
    with pytest.raises(ValueError, match="frozen"):
        answer_loss(tiny(), rows_of(examples, [[0]]))


def test_without_gradients_none_is_computed(examples):
    model = adapted(tiny())
    batch = rows_of(examples, [[0, 1]])
    with torch.no_grad():
        total, _ = answer_loss(model, batch)
    assert not total.requires_grad
    assert float(total) == pytest.approx(float(answer_loss(model, batch)[0]), rel=1e-6)


def test_the_full_logits_never_exist(examples):
    model = adapted(tiny())
    seen = []
    model.get_base_model().lm_head.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))
    answer_loss(model, rows_of(examples, [[0, 1], [2, 3]]), chunk=16)
    assert max(rows for rows, _ in seen) <= 16


def test_the_models_own_forward_comes_back(examples):
    model = adapted(tiny())
    causal = model.get_base_model()
    answer_loss(model, rows_of(examples, [[0]]))
    with pytest.raises(KeyError):
        answer_loss(model, {})
    assert "forward" not in vars(causal)
    causal.forward = marked = causal.forward
    answer_loss(model, rows_of(examples, [[0]]))
    assert causal.forward is marked


def test_soft_capped_logits(examples):
    model = frozen_head(tiny(final_logit_softcapping=3.0))
    batch = rows_of(examples, [[0]])
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(
        logits[0, :-1], batch["labels"][0, 1:], ignore_index=IGNORED, reduction="sum"
    )
    assert float(answer_loss(model, batch)[0]) == pytest.approx(float(expected), rel=1e-6)


def test_through_data_parallel_processes(examples, tmp_path):
    """DDP's own forward runs, so its gradients are averaged: with one process they are the plain ones."""
    import torch.distributed as distributed

    model = adapted(tiny())
    expected = gradients(model, answer_loss(model, rows_of(examples, [[0, 1]]))[0])
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        answer_loss(wrapped, rows_of(examples, [[0, 1]]))[0].backward()
        found = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    finally:
        distributed.destroy_process_group()
    assert difference(found, expected) < 1e-6


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_changes_nothing(examples, checkpointing):
    model = adapted(tiny())
    batch = rows_of(examples, [[0, 1]])
    expected = gradients(model, answer_loss(model, batch)[0])
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert difference(gradients(model, answer_loss(model, batch)[0]), expected) < 1e-5
