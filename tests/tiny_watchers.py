"""Tiny watchers of the real transformers classes, made from configs offline and saved as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] what kind of pet is it ? cat dog yes no there a hat in the picture"
CHAT = (
    "<pad> <unk> <s> </s> <image> user : assistant answer with one word or short noun phrase . what kind of pet is it ?"
)
MORE = "cat dog yes no there a hat in the picture choose"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
_SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _bert(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()))
    return transformers.BertTokenizerFast(str(folder / "vocab.txt"))


def _saved(model: Any, processor: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def vilt(folder: Path) -> str:
    torch.manual_seed(0)
    labels = {0: "cat", 1: "dog", 2: "yes"}
    config = transformers.ViltConfig(
        vocab_size=len(WORDS.split()), image_size=32, patch_size=8, max_position_embeddings=32, num_labels=3,
        id2label=labels, label2id={name: at for at, name in labels.items()}, **_SMALL,
    )  # fmt: skip
    images = transformers.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    return _saved(
        transformers.ViltForQuestionAnswering(config), transformers.ViltProcessor(images, _bert(folder)), folder
    )


def blip(folder: Path) -> str:
    torch.manual_seed(0)
    text = {"vocab_size": len(WORDS.split()), "encoder_hidden_size": 32, "max_position_embeddings": 32, **_SMALL}
    marks = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = transformers.BlipConfig(
        text_config={**text, **marks}, vision_config={"image_size": 32, "patch_size": 8, **_SMALL}, projection_dim=32
    )
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    return _saved(
        transformers.BlipForQuestionAnswering(config), transformers.BlipProcessor(images, _bert(folder)), folder
    )


def llava(folder: Path) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys(f"{CHAT} {MORE}".split()))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, **marks, additional_special_tokens=["<image>"]
    )
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = transformers.LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=32, **_SMALL),
        text_config=transformers.LlamaConfig(
            vocab_size=len(vocabulary), num_key_value_heads=2, bos_token_id=2, eos_token_id=3, pad_token_id=0, **_SMALL
        ),
        image_token_index=vocabulary["<image>"],
        image_seq_length=16,
    )
    return _saved(transformers.LlavaForConditionalGeneration(config), processor, folder)
