"""Time-LLM, and the ablations that replace its language model."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from .base import Forecaster, ForecasterConfig

FLAT = 1e-5
"""Added to a window's variance, so that a constant window can be normalised."""


class Words(nn.Module):
    """A table of words without a language model; what reads patches in its place is one attention layer, or nothing."""

    def __init__(self, words: int, width: int, heads: int) -> None:
        """Make one of this shape."""
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layers = nn.ModuleList([Attention(width, heads)] if heads else [])

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the table."""
        return self.words

    def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> ModelOutput:
        """Attend to `(batch, length, width)`, where `attention_mask` is 1."""
        states = [inputs_embeds]
        for layer in self.layers:
            states.append(layer(states[-1], attention_mask))
        return ModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states))


class Attention(nn.Module):
    """One layer of self-attention, with a residual and a norm."""

    def __init__(self, width: int, heads: int) -> None:
        """Make one of this shape."""
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return `(batch, length, width)`."""
        given, _ = self.attention(states, states, states, key_padding_mask=mask == 0, need_weights=False)
        normed: torch.Tensor = self.norm(states + given)
        return normed


class TimeLLM(Forecaster):
    """Time-LLM (Jin et al. 2024, https://arxiv.org/abs/2310.01728): a language model reads patches put into its words.

    A window x is normalised, (x - mean) / sqrt(var + 1e-5), its last value repeated `patch_stride` times, and cut into
    patches, which a circular convolution of three embeds (`patch_width`). Attention of `heads` heads over prototypes
    E' = W E + b, where E is the frozen word table, turns patches into vectors of the backbone's width. The backbone
    reads [prompt; patches]; a linear layer reads the first `head_width` dimensions of the outputs at the patches.

    Padding of prompts is masked and lies behind the patches, so that it changes nothing. A backbone that does not learn
    has no dropout either, and neither has the forecast.
    """

    def __init__(self, config: ForecasterConfig) -> None:
        """Make one of this shape."""
        super().__init__(config)
        self.backbone = _backbone(config)
        width, wide = self.table.embedding_dim, config.heads * config.key_width  # words may be narrower than layers
        self.patch = nn.Conv1d(
            config.patch_length * config.channels, config.patch_width, 3, padding=1, padding_mode="circular", bias=False
        )
        nn.init.kaiming_normal_(self.patch.weight, mode="fan_in", nonlinearity="leaky_relu")
        if config.folded:
            self.kept = nn.Parameter(torch.zeros(config.prototypes, width))
        else:
            self.mapping = nn.Linear(self.table.num_embeddings, config.prototypes)
        self.query = nn.Linear(config.patch_width, wide)
        self.key, self.value = nn.Linear(width, wide), nn.Linear(width, wide)
        self.out = nn.Linear(wide, width)
        self.head = nn.Linear(config.head_width * config.patches, config.horizon * self.numbers)
        self.table.weight.requires_grad_(False)
        if config.around in ("pretrained", "random"):
            self.backbone.requires_grad_(config.train_backbone)
            self.table.weight.requires_grad_(False)
        self.post_init()

    @property
    def table(self) -> nn.Embedding:
        """The word table E, `(words, width)`."""
        found: nn.Embedding = cast("Words", self.backbone).get_input_embeddings()
        return found

    def get_input_embeddings(self) -> nn.Module:
        """Return the word table."""
        return self.table

    def train(self, mode: bool = True) -> "TimeLLM":
        """Train, but for a backbone that does not learn, which has no dropout then."""
        super().train(mode)
        if not self.config.train_backbone and self.config.around in ("pretrained", "random"):
            self.backbone.eval()
        return self

    @property
    def word_prototypes(self) -> torch.Tensor:
        """The prototypes E', `(prototypes, width)`."""
        if self.config.folded:
            return self.kept
        found: torch.Tensor = self.mapping(self.table.weight.T).T
        return found

    def fold(self) -> None:
        """Keep the prototypes themselves; where no prompt is read, the word table too is no longer needed."""
        if not self.config.folded:
            with torch.no_grad():
                self.kept = nn.Parameter(self.word_prototypes.detach().clone())
            del self.mapping
            self.config.folded = True
        if self.config.prompt == "none" and self.table.num_embeddings > _fewest(self.config.backbone):
            fewest = _fewest(self.config.backbone)
            self.config.backbone = {**self.config.backbone, "vocab_size": fewest}
            with torch.no_grad():
                self.table.weight = nn.Parameter(self.table.weight[:fewest].clone(), requires_grad=False)
            self.table.num_embeddings = fewest
            if isinstance(self.backbone, PreTrainedModel):
                self.backbone.config.vocab_size = fewest

    def standard(
        self,
        values: torch.Tensor,
        others: torch.Tensor,
        prompt_ids: torch.Tensor | None,
        prompt_length: torch.Tensor | None,
        deep: bool,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """Normalise the window, let the backbone read it, and undo the normalisation."""
        config = self.config
        mean = values.mean(dim=1, keepdim=True)
        scale = (values.var(dim=1, keepdim=True, unbiased=False) + FLAT).sqrt()
        given = self._reprogrammed(torch.cat([((values - mean) / scale).unsqueeze(-1), others], dim=-1))
        batch, count, width = given.shape
        lengths = torch.zeros(batch, dtype=torch.int64, device=given.device)
        words = 0
        if prompt_ids is not None and prompt_length is not None and config.around != "none":
            lengths, words = prompt_length, prompt_ids.shape[1]
        places = lengths[:, None] + torch.arange(count, device=given.device)
        where = places.unsqueeze(-1).expand(-1, -1, width)
        read = given.new_zeros(batch, words + count, width)
        if words:
            assert prompt_ids is not None
            read[:, :words] = self.table(prompt_ids).to(read.dtype)
        read = read.scatter(1, where, given)
        mask = (torch.arange(words + count, device=given.device) < lengths[:, None] + count).long()
        said = self.backbone(inputs_embeds=read, attention_mask=mask, output_hidden_states=deep)
        last = _at(places, said.last_hidden_state)[..., : config.head_width]
        found = self.head(last.transpose(1, 2).flatten(1)).view(batch, config.horizon, self.numbers)
        states = tuple(_at(places, each) for each in said.hidden_states) if deep else None
        return found * scale.unsqueeze(-1) + mean.unsqueeze(-1), states

    def _reprogrammed(self, channels: torch.Tensor) -> torch.Tensor:
        """Turn `(batch, history, channels)` into vectors of the backbone's width, `(batch, patches, width)`."""
        config = self.config
        padded = F.pad(channels.transpose(1, 2), (0, config.patch_stride), mode="replicate")
        patches = padded.unfold(2, config.patch_length, config.patch_stride)  # (batch, channels, patches, length)
        embedded = self.patch(patches.transpose(1, 2).flatten(2).transpose(1, 2)).transpose(1, 2)
        words = self.word_prototypes

        def heads(given: torch.Tensor) -> torch.Tensor:
            return given.view(*given.shape[:-1], config.heads, config.key_width).transpose(-3, -2)

        key, value = (heads(part(words)).expand(len(embedded), -1, -1, -1) for part in (self.key, self.value))
        attended = F.scaled_dot_product_attention(heads(self.query(embedded)), key, value)
        found: torch.Tensor = self.out(attended.transpose(-3, -2).flatten(2))
        return found


def _at(places: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Return `states` `(batch, length, width)` at `places` `(batch, count)`, `(batch, count, width)`."""
    return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def _fewest(backbone: dict[str, Any]) -> int:
    """Return how many words a table has at least: some models find positions by the number of their padding token."""
    return max(backbone.get("pad_token_id") or 0, 0) + 1


def _backbone(config: ForecasterConfig) -> nn.Module:
    """Make the backbone, its weights as its library makes them."""
    if config.around in ("attention", "none"):
        heads = config.num_attention_heads if config.around == "attention" else 0
        return Words(config.backbone["vocab_size"], config.hidden_size, heads)
    settings = dict(config.backbone)
    known = AutoConfig.for_model(settings.pop("model_type"), **settings)
    name = known.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    depth = getattr(known, name)
    for option, value in known.to_dict().items():
        if isinstance(value, list) and len(value) == depth > config.num_hidden_layers:
            setattr(known, option, value[: config.num_hidden_layers])
    setattr(known, name, config.num_hidden_layers)
    model: Any = AutoModel.from_config(known, trust_remote_code=False)
    if getattr(model, "pooler", None) is not None:  # reads the first token, which is no patch
        model.pooler = None
    made: nn.Module = model
    return made
