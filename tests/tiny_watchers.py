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


def _chat_tokenizer(*marks: str) -> tuple[Any, dict[str, int]]:
    """A word tokenizer of the chat's words and further marks, and its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [*f"{CHAT} {MORE}".split(), *marks]
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys(words))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, **names, additional_special_tokens=["<image>", *marks]
    )
    return made, vocabulary


def llava(folder: Path) -> str:
    torch.manual_seed(0)
    tokenizer, vocabulary = _chat_tokenizer()
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


def idefics3(folder: Path) -> str:
    """The class of SmolVLM's first release."""
    torch.manual_seed(0)
    marks = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer, vocabulary = _chat_tokenizer(*marks)
    images = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    config = transformers.Idefics3Config(
        vision_config={"image_size": 32, "patch_size": 8, **_SMALL},
        text_config={
            "model_type": "llama", "vocab_size": len(vocabulary), "num_key_value_heads": 2, "bos_token_id": 2,
            "eos_token_id": 3, "pad_token_id": 0, **_SMALL,
        },
        image_token_id=vocabulary["<image>"],
        scale_factor=2,
        pad_token_id=0,
    )  # fmt: skip
    return _saved(transformers.Idefics3ForConditionalGeneration(config), processor, folder)


def qwen(folder: Path) -> str:
    """The class of Qwen2.5-VL: pictures of any size, a token for each 2x2 patches."""
    torch.manual_seed(0)
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tokenizer, vocabulary = _chat_tokenizer(*marks)
    pixels = {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}, "patch_size": 8, "merge_size": 2}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**pixels),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**pixels),
        chat_template=TEMPLATE.replace("<image>", "<|vision_start|> <|image_pad|> <|vision_end|>"),
    )
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "patch_size": 8,
            "window_size": 32, "out_hidden_size": 32, "fullatt_block_indexes": [1],
        },
        text_config={
            "vocab_size": len(vocabulary), "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3,
            "pad_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            **_SMALL,
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
    )  # fmt: skip
    return _saved(transformers.Qwen2_5_VLForConditionalGeneration(config), processor, folder)
