"""Published rows of JMED-LLM's leaderboard, for comparison.

Source: the README of sociocom/JMED-LLM at 3774a34c. Zero-shot, read from free generation: P0, but for one thing. Its
partial F1 is the reference's (see metrics.partial_f1_reference_rows), so of extraction the exact F1 is compared.
"""

from slm.tasks.jmed_llm import SOURCES

PROTOCOL = "P0, published"
_TASKS = ("jmmlu_med", "mrner_disease", "mrner_medicine", "nrner", "crade", "rrtnm", "smdis", "jcsts")

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
    found = {}
    for model, values in _ROWS.items():
        found[model] = {}
        for task, (first, second) in zip(_TASKS, values):
            source = SOURCES[task]
            names = (source.headline, "accuracy") if source.kind == "choice" else ("partial_f1_reference", "exact_f1")
            found[model][task] = dict(zip(names, (first, second)))
    return found
