import torch
from torch.utils.flop_counter import FlopCounterMode

from bert import kernels
from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.loss import pretraining_sums
from raybert.training.report import StepReport
from raybert.training.throughput import Meter, batch_flops, measure_peak

CONFIG = BertConfig.named("tiny", vocab_size=211, max_position_embeddings=64)


def packed(*lengths: int) -> PackedBatch:
    batch = PackedBatch.from_sequences([[7] * length for length in lengths])
    masked = torch.tensor([1, 3, 4])
    return PackedBatch(
        **{
            **{name: getattr(batch, name) for name in batch.__dataclass_fields__},
            "masked_index": masked,
            "masked_labels": torch.full_like(masked, 9),
            "next_sentence_labels": torch.zeros(len(lengths), dtype=torch.int64),
        }
    )


def test_the_formula_agrees_with_torchs_count_of_the_forward_pass(request):
    """Torch counts the products that are computed; with equal lengths none is for padding."""
    request.addfinalizer(lambda: kernels.choose("auto"))
    kernels.choose("torch")  # it does not see into compiled kernels
    batch = packed(24, 24, 24)
    model = BertForPreTraining(CONFIG)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pretraining_sums(model, batch)
    assert batch_flops(CONFIG, batch) == 3 * counter.get_total_flops()


def test_a_meter_adds_up_the_steps_between_two_rows():
    batch = packed(10, 14)
    values = torch.zeros(2 * 3 + 5, dtype=torch.float64)
    values[-5] = 100  # tokens of all workers
    report = StepReport(0, 0.0, ("mlm", "nsp"), values)
    meter = Meter(CONFIG, peak_flops=batch_flops(CONFIG, batch))
    meter.add(report, [batch], seconds=2.0, waited=0.5)
    meter.add(report, [batch, batch], seconds=2.0, waited=0.5)
    assert meter.take() == {
        "throughput/tokens_per_sec": 50.0,
        "throughput/mfu": 0.75,
        "time/step_seconds": 2.0,
        "time/data_wait_fraction": 0.25,
    }
    assert meter.take()["throughput/tokens_per_sec"] == 0


def test_a_peak_is_a_rate():
    assert measure_peak(torch.device("cpu"), "fp32") > 1e8
