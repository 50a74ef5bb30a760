"""Self-attention whose cost grows with the number of tokens, not with its square (Xiong et al., Nystromformer, AAAI 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NystromAttention(nn.Module):
    """softmax(Q K') V by way of m landmarks: softmax(Q k') pinv(softmax(q k')) softmax(q K') V, q and k the means of m segments.

    The authors fill the sequence up with zeros to a multiple of m, and these take part; here the segments differ by a token in
    length instead, and a sequence of fewer than m tokens is its own landmarks. The pseudo-inverse takes six steps of the iteration
    of Razavi et al. 2014, as in the source. A depth-wise convolution of the values along the sequence is added.

    Args:
        width: of a token.
        heads: of the attention; they share the width.
        landmarks: m.
        steps: of the pseudo-inverse.
        kernel: of the convolution.
        dropout: share of the output that is left out in training.
    """

    def __init__(
        self, width: int, *, heads: int = 8, landmarks: int = 64, steps: int = 6, kernel: int = 33, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.heads = heads
        self.landmarks = landmarks
        self.steps = steps
        self.scale = (width // heads) ** -0.5
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.along = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From tokens (N, width) return as many, and the attention (N,) that the first pays to each, the mean over the heads."""
        n, width = x.shape[0], x.shape[1]
        qkv = self.to_qkv(x).view(n, 3, self.heads, width // self.heads).permute(1, 2, 0, 3)
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]  # (heads, N, width / heads)
        segments = min(self.landmarks, n)
        q_marks = F.adaptive_avg_pool1d(q.transpose(1, 2), segments).transpose(1, 2)
        k_marks = F.adaptive_avg_pool1d(k.transpose(1, 2), segments).transpose(1, 2)
        to_marks = torch.softmax(q @ k_marks.transpose(1, 2), dim=2)
        of_marks = torch.softmax(q_marks @ k.transpose(1, 2), dim=2)
        between = self._pseudo_inverse(torch.softmax(q_marks @ k_marks.transpose(1, 2), dim=2))
        mixed = (to_marks @ between) @ (of_marks @ v) + self.along(v.unsqueeze(0)).squeeze(0)
        first = ((to_marks[:, :1] @ between) @ of_marks).mean(dim=0).squeeze(0)
        return self.out(mixed.transpose(0, 1).reshape(n, width)), first

    def _pseudo_inverse(self, x: Tensor) -> Tensor:
        """Of matrices (heads, m, m) whose rows sum to 1."""
        one = torch.eye(x.shape[1], device=x.device, dtype=x.dtype).unsqueeze(0)
        z = x.transpose(1, 2) / (x.sum(dim=2).amax() * x.sum(dim=1).amax())
        for _ in range(self.steps):
            xz = x @ z
            z = z @ (13 * one - xz @ (15 * one - xz @ (7 * one - xz))) / 4
        return z
