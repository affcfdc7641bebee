"""Corpora by name."""

from slm.corpus.sources import CorpusConfig, SourceConfig

# The paper's mixture (arXiv 2412.16423): Common Corpus from Japanese Wikipedia and OSCAR-2301, medical text of the
# web, synthesised textbooks; about 9B tokens, seen 5.5 times in its 50B. Its weights are not published: textbooks and
# medical text are few, so they weigh more here. Files lie under data/, unless --config.corpus.sources.NAME.files says
# otherwise.
NCVC = CorpusConfig(curated=True, sources=(
    SourceConfig("wikipedia", "data/wikipedia/jawiki-*-pages-articles*.xml*", "encyclopedia", "CC-BY-SA-4.0"),
    SourceConfig("oscar", "data/oscar/ja_meta/*.jsonl.zst", "web"),
    SourceConfig("web_medical", "data/web_medical/*.jsonl*", "web", weight=4.0),
    SourceConfig("textbooks", "runs/textbooks-endpoint/documents.jsonl", "textbook", weight=2.0)))
