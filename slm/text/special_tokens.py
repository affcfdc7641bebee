"""Special tokens, the chat template, and the file names of a tokenizer's folder."""

MODEL_FILE, SETTINGS_FILE, DICTIONARY_FILE = "tokenizer.model", "tokenizer.json", "user.dic"
HUGGING_FACE_FILE = "hugging_face_tokenizer.json"  # of a tokenizer that was imported with its model

# Reserved in every vocabulary: a document's end; roles and the end of a turn; twelve for later use.
END_OF_DOCUMENT = "</s>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END_OF_TURN = "<|end|>"
CONTROL_SYMBOLS = (*ROLES, END_OF_TURN, *(f"<|reserved_{i}|>" for i in range(12)))
WHITE_SPACE_SYMBOLS = ("\n", "\t")

# The template of text/chat.py for runtimes that read Jinja (Hugging Face, llama.cpp): parts of a text are joined, a
# developer is the system, and what chat.py refuses is refused.
CHAT_TEMPLATE_FILE = "chat_template.jinja"
_TEXT = "{{ part['text'] }}"
CHAT_TEMPLATE = (
    "</s>{% if not messages or tools %}{{ raise_exception('give messages, and no tools') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{% if role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('a message has an unknown role: known roles are system, user, assistant') }}{% endif %}"
    "{% set content = message['content'] %}"
    "{% if content is string %}{% set content = [{'type': 'text', 'text': content}] %}{% endif %}"
    "{% if content is not defined or content is not iterable %}"
    "{{ raise_exception('a message has no text') }}{% endif %}"
    "<|{{ role }}|>"
    "{% for part in content %}{% if part['type'] != 'text' or part['text'] is not string %}"
    "{{ raise_exception('a message has content that is not text') }}{% endif %}" + _TEXT + "{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
# The same for tokenizers that parse control symbols in a text: a full-width < spells none, and our normalisation makes
# it < again, so the ids are those of text/chat.py.
SAFE_CHAT_TEMPLATE = CHAT_TEMPLATE.replace(_TEXT, "{{ part['text'] | replace('<', '\uff1c') }}")
