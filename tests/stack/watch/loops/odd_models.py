"""Honest loops with unusual models and losses: `python odd_models.py WORLD OUT WAY`."""

import copy

import torch
from odd_common import OUT, STEPS, data, network, run
from torch import nn
from torch.nn import functional as F


def truncated_backpropagation():
    """A recurrent network carries its state over, cut off between pieces."""
    rnn, head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 8)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], 1e-2)
    state = None
    for _ in range(STEPS):
        x = torch.randn(4, 12, 8)
        y, state = rnn(x, state)
        state = tuple(one.detach() for one in state)
        loss = F.mse_loss(head(y[:, :-1]), x[:, :-1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def gradient_penalty():
    """A critic with a penalty on its own gradient, and its weights clamped."""
    critic = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 1))
    optimizer = torch.optim.RMSprop(critic.parameters(), 1e-3)
    for _ in range(STEPS):
        real, fake = torch.randn(16, 4) + 1, torch.randn(16, 4)
        mixed = (real + fake).div(2).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        loss = critic(fake).mean() - critic(real).mean() + (slope.norm(dim=1) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for weight in critic.parameters():
            weight.data.clamp_(-0.5, 0.5)


def two_losses():
    """Two heads on one trunk, a backward pass for each."""
    trunk, one, two = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 1)
    weights = [*trunk.parameters(), *one.parameters(), *two.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-2)
    for _ in range(STEPS):
        x, y = data()
        hidden = trunk(x).relu()
        F.cross_entropy(one(hidden), y).backward(retain_graph=True)
        (0.1 * two(hidden).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


def policy_gradient():
    """REINFORCE: a policy that is asked without a gradient first, in training mode."""
    policy = network(0.0)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    for _ in range(STEPS):
        x, y = data()
        with torch.no_grad():
            action = torch.distributions.Categorical(logits=policy(x)).sample()
        reward = (action == y).float()
        chosen = torch.distributions.Categorical(logits=policy(x)).log_prob(action)
        loss = -(chosen * (reward - reward.mean())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def experts():
    """One of four experts is used in a step, and one is never used."""
    experts, gate = nn.ModuleList(nn.Linear(8, 4) for _ in range(4)), nn.Linear(8, 4)
    optimizer = torch.optim.AdamW([*experts.parameters(), *gate.parameters()], 1e-2)
    for step in range(STEPS):
        x, y = data()
        used = step % 3
        loss = F.cross_entropy(gate(x)[:, used : used + 1] * experts[used](x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def uncertainty():
    """Dropout stays on while the model is asked how sure it is; half of the weights are saved."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, amsgrad=True)
    for _ in range(STEPS):
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        answers = torch.stack([model(x).softmax(1) for _ in range(8)])
    print("spread", answers.std(0).mean().item())
    torch.save({k: v.bfloat16() for k, v in model.state_dict().items()}, OUT / "half.pt")


def contrastive():
    """Two encoders, a momentum copy of one, and a loss over pairs."""
    encoder, other = network(), network()
    slow = copy.deepcopy(encoder).requires_grad_(False)
    scale = nn.Parameter(torch.tensor(1.0))
    weights = [*encoder.parameters(), *other.parameters(), scale]
    optimizer = torch.optim.AdamW(weights, 1e-2)
    for _ in range(STEPS):
        x, _ = data()
        a, b = F.normalize(encoder(x), dim=1), F.normalize(other(x + 0.1), dim=1)
        with torch.no_grad():
            c = F.normalize(slow(x), dim=1)
        loss = (
            F.cross_entropy(scale.exp() * a @ b.T, torch.arange(32)) + (1 - (b * c).sum(1)).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(slow.parameters(), encoder.parameters()):
                p.lerp_(q, 0.01)


def fixed_batch():
    """The whole data set is one batch, for every step."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = data(64)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


class Straight(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def own_function():
    """Weights are rounded in the forward pass, with a gradient of one's own."""
    layer, head = nn.Linear(8, 32), nn.Linear(32, 4)
    optimizer = torch.optim.AdamW([*layer.parameters(), *head.parameters()], 1e-2)
    for _ in range(STEPS):
        x, y = data()
        hidden = F.linear(x, Straight.apply(layer.weight * 8) / 8, layer.bias).relu()
        optimizer.zero_grad()
        F.cross_entropy(head(hidden), y).backward()
        optimizer.step()


run(globals())
