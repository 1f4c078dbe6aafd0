"""The learning rate as a function of the step."""


def linear_schedule(step: int, peak: float, num_warmup_steps: int, num_steps: int) -> float:
    """Linear warm-up to `peak`, then linear decay to 0 (Devlin et al. 2018, A.2).

    The arithmetic is that of `transformers.get_linear_schedule_with_warmup`: step 0 of a warm-up
    has rate 0, and so has every step from num_steps on.

    Args:
        step: counted from 0.
        peak: the rate at the end of the warm-up.
        num_warmup_steps: steps of the warm-up.
        num_steps: steps in all.
    """
    if step < num_warmup_steps:
        return peak * (step / max(1, num_warmup_steps))
    return peak * max(0.0, (num_steps - step) / max(1, num_steps - num_warmup_steps))
