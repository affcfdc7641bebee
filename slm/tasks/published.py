"""Published rows of JMED-LLM's leaderboard, for comparison.

Source: the README of sociocom/JMED-LLM at 3774a34c. Zero-shot, read from free generation (P0). Its partial F1
is the reference's (metrics.partial_f1_reference_rows), so extraction is compared by exact F1.
"""

PROTOCOL = "P0, published"
_KAPPA, _LINEAR, _F1 = ("kappa", "accuracy"), ("linear_kappa", "accuracy"), ("partial_f1_reference", "exact_f1")
_METRICS = {"jmmlu_med": _KAPPA, "mrner_disease": _F1, "mrner_medicine": _F1, "nrner": _F1, "crade": _LINEAR,
            "rrtnm": _KAPPA, "smdis": _KAPPA, "jcsts": _LINEAR}

# (headline, second) as printed there: kappa and accuracy, or partial F1 and exact F1.
_ROWS = {
    "gpt-4o-2024-08-06": (
        (.82, .87), (.54, .15), (.42, .26), (.39, .20), (.54, .53), (.85, .90), (.76, .88), (.60, .48)),
    "gpt-4o-mini-2024-07-18": (
        (.77, .83), (.48, .13), (.52, .32), (.48, .25), (.21, .37), (.58, .71), (.56, .78), (.57, .51)),
    "gemma-2-9b-it": (
        (.52, .64), (.61, .16), (.65, .42), (.53, .30), (.33, .42), (.54, .68), (.62, .81), (.16, .24)),
    "Llama-3-ELYZA-JP-8B": (
        (.34, .51), (.83, .31), (.51, .31), (.47, .26), (.01, .26), (.29, .52), (.54, .77), (.02, .18)),
    "gemma-2-2b-it": (
        (.17, .38), (.66, .20), (.46, .23), (.46, .26), (.00, .25), (.24, .43), (.14, .57), (.12, .21)),
}


def rows() -> dict[str, dict[str, dict[str, float]]]:
    """{model: {task: {metric: value}}}, by our names of the metrics."""
    return {model: {task: dict(zip(metrics, pair)) for (task, metrics), pair in zip(_METRICS.items(), values)}
            for model, values in _ROWS.items()}
