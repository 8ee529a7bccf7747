"""The pretended cards refuse what CUDA refuses, and give what the CPU gives for the rest."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from tests.support.pretend_gpu import pretend

CARD, OTHER = "cuda:0", "cuda:1"


def block(device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Dropout(0.5)
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, 8)).to(device)


def trained(device: str, cast: torch.dtype | None = None) -> list[torch.Tensor]:
    """Three steps with attention, dropout, clipping and the fused optimiser."""
    model = block(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler(device.split(":")[0], enabled=cast == torch.float16)
    states = torch.randn(4, 2, 5, 8).to(device)
    wanted = torch.randint(0, 8, (4, 2, 5)).to(device)
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.autocast(device.split(":")[0], cast or torch.bfloat16, enabled=cast is not None):
            seen = model(states)
            logits = F.scaled_dot_product_attention(seen, seen, states.to(seen), is_causal=True)
            loss = F.cross_entropy(logits.flatten(0, 2), wanted.flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return [p.detach().cpu() for p in model.parameters()]


@pytest.mark.parametrize("device", [CARD, OTHER])
def test_training_is_the_cpus(device: str) -> None:
    expected = trained("cpu")
    with pretend(cards=2):
        got = trained(device)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_in_half_precision_is_near_the_cpus(dtype: torch.dtype, gpu) -> None:
    for ours, exact in zip(trained(CARD, dtype), trained("cpu"), strict=True):
        assert 0 < float((ours - exact).abs().max()) < 0.1


MISTAKES = {
    "two devices": lambda x, y: x + torch.ones(3),
    "two cards": lambda x, y: x + y,
    "a number of another card": lambda x, y: x + y.sum(),
    "a weight left on the CPU": lambda x, y: F.linear(x, torch.ones(3, 3)),
    "words left on the CPU": lambda x, y: F.embedding(torch.tensor([0]), x),
    "places on the card for the CPU's": lambda x, y: torch.ones(3)[x[0].long()],
    "places on another card": lambda x, y: x[y[0].long()],
    "places on the CPU, selected": lambda x, y: x.index_select(0, torch.tensor([0])),
    "values left on the CPU": lambda x, y: x.masked_scatter_(x > 0, torch.ones(9)),
    "attention to another card": lambda x, y: F.scaled_dot_product_attention(x, y, y),
    "attention in two dtypes": lambda x, y: F.scaled_dot_product_attention(x, x.half(), x.half()),
    "two dtypes": lambda x, y: x @ x.half(),
    "joined": lambda x, y: torch.cat([x, y]),
    "no such card": lambda x, y: x.to("cuda:2"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_what_cuda_refuses_is_refused(mistake) -> None:
    with pretend(cards=2):
        x, y = torch.ones(3, 3, device=CARD), torch.ones(3, 3, device=OTHER)
        with pytest.raises(RuntimeError, match=r"device|dtype|cpu"):
            mistake(x, y)


def test_what_cuda_takes_is_taken(gpu) -> None:
    x = torch.arange(12.0, device=CARD).reshape(3, 4)
    assert (x * torch.tensor(2.0)).device == torch.device(CARD)  # a number may stay on the CPU
    assert x[torch.tensor([2, 0])].tolist() == x[[2, 0]].tolist() == x.cpu()[[2, 0]].tolist()
    x[0], x[:, 1], x[x > 9] = 1.0, x[:, 2].clone(), 5.0
    assert x.cpu().numpy().tolist() == [[1, 2, 1, 1], [4, 6, 6, 7], [8, 5, 5, 5]]
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        x.numpy()
    with torch.inference_mode():
        seen = x[1:].flatten().to("cpu", non_blocking=True)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        seen * torch.nn.Parameter(torch.ones(8))


def test_threads_see_the_card_too(gpu) -> None:
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(lambda: torch.ones(2).pin_memory().to(CARD, non_blocking=True)).result()
    assert moved.device == torch.device(CARD)


def test_moved_modules_keep_what_is_tied(gpu) -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    second.weight = weight = first.weight
    model = torch.nn.Sequential(first, second).to(CARD).half()
    assert model[0].weight is model[1].weight is weight
    assert (weight.device, weight.dtype) == (torch.device(CARD), torch.float16)
    assert torch.cuda.memory_allocated() == 3 * 512
    copied = copy.deepcopy(model)
    assert copied[0].weight is copied[1].weight is not weight


def test_memory_is_that_of_live_tensors() -> None:
    with pretend(cards=2, budget=4096) as machine:
        held = torch.zeros(256, device=CARD)  # 1,024 bytes
        views = held[1:], held.view(16, 16), held.detach()
        assert torch.cuda.memory_allocated() == 1024
        more = held + 1
        assert torch.cuda.mem_get_info(0) == (2048, 24 * 2**30)
        assert torch.cuda.mem_get_info(1) == (4096, 24 * 2**30)
        del held, more
        assert torch.cuda.memory_allocated() == 1024  # the views hold on to it
        del views
        assert torch.cuda.memory_allocated() == 0
        assert torch.cuda.max_memory_allocated() == 2048
        with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory\. Tried"):
            torch.zeros(1025, device=CARD)
        torch.zeros(1024, device=CARD)  # what failed took nothing
        machine.cards[1].complaint = lambda text: RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
        machine.cards[1].rows_fail_from = 4
        batch = torch.zeros(4, 1, 1).to(OTHER)
        with pytest.raises(RuntimeError, match="CUBLAS"):
            batch + 1
        assert (batch[:3] + 1).device == torch.device(OTHER)


def test_pinned_memory(gpu) -> None:
    held = torch.ones(1000)
    pinned = held.pin_memory()
    assert pinned.is_pinned()
    assert not held.is_pinned()
    assert list(gpu.pinned.values()) == [4096]  # the allocator's next power of two
    runtime = torch.cuda.cudart()
    assert runtime.cudaHostRegister(held.data_ptr(), held.nbytes, 0) == runtime.cudaError.success
    assert held.is_pinned()
    gpu.pinnable = 0
    assert runtime.cudaHostRegister(1, 1, 0) != runtime.cudaError.success
    with pytest.raises(RuntimeError, match="out of memory"):
        held.clone().pin_memory()


def test_saved_tensors_name_their_card() -> None:
    file = io.BytesIO()
    with pretend():
        torch.save(torch.ones(3, device=CARD), file)
        file.seek(0)
        assert torch.load(file, map_location="cpu").tolist() == [1, 1, 1]
        assert torch.cuda.get_device_capability() == (8, 0)
    file.seek(0)
    with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
        torch.load(file)
    assert not torch.cuda.is_available()
