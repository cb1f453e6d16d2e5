"""Honest loops that step in unusual ways: `python odd_steps.py WORLD OUT WAY`."""

import copy

import torch
from odd_common import OUT, STEPS, data, network, run
from torch import nn
from torch.nn import functional as F


def sharpness_aware():
    """SAM: the gradient is taken beside the weights, which are put back before the step."""
    model = network(0.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        x, y = data()
        F.cross_entropy(model(x), y).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        moves = [p.grad * 0.05 / norm for p in model.parameters()]
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves):
                p.add_(move)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves):
                p.sub_(move)
        optimizer.step()
        optimizer.zero_grad()


def closure():
    """LBFGS, which calls its closure many times in a step."""
    model = network(0.0)
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=4)
    x, y = data()

    def again():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(STEPS):
        optimizer.step(again)


def own_clipping():
    """The gradients are clamped by hand, and those that aren't finite are left out."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    for _ in range(STEPS):
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for weight in model.parameters():
            weight.grad.nan_to_num_().clamp_(-0.01, 0.01)
        optimizer.step()


def sparse():
    """An embedding with sparse gradients and an optimizer for them, beside another one."""
    table, head = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 4)
    first = torch.optim.SparseAdam(table.parameters(), 1e-2)
    second = torch.optim.Adagrad(head.parameters(), 1e-2)
    for _ in range(STEPS):
        rows = torch.randint(50, (16, 3))
        loss = F.cross_entropy(head(table(rows).mean(1)), rows[:, 0] % 4)
        first.zero_grad()
        second.zero_grad()
        loss.backward()
        first.step()
        second.step()


class Signs(torch.optim.Optimizer):
    """Moves by the sign of the gradient's mean, as Lion does."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.sub_(mean.lerp(p.grad, 0.1).sign(), alpha=group["lr"])
                mean.lerp_(p.grad, 0.01)


def own_optimizer():
    """An optimizer that nobody knows."""
    model = network()
    optimizer = Signs(model.parameters(), 1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for _ in range(STEPS):
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        scheduler.step()


def averaged():
    """An average of the weights beside them is evaluated and saved; its norm's figures anew."""
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        average.update_parameters(model)
    torch.optim.swa_utils.update_bn([data()[0] for _ in range(3)], average)
    torch.save(average.module.state_dict(), OUT / "average.pt")


def rate_search():
    """The rate is raised step by step, and the weights are put back before the real run."""
    model = network()
    start = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    best, rate = 1e-5, 9e9
    for _ in range(STEPS):
        x, y = data()
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 2
        if loss.item() < rate:
            best, rate = optimizer.param_groups[0]["lr"], loss.item()
    model.load_state_dict(start)
    optimizer = torch.optim.AdamW(model.parameters(), best)
    for _ in range(STEPS):
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def best_kept():
    """The best weights are kept aside, training stops early, and they are saved at the end."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    best, kept, patience = 9e9, None, 0
    x_test, y_test = data()
    for _ in range(40):
        model.train()
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        model.eval()
        with torch.inference_mode():
            loss = F.cross_entropy(model(x_test), y_test).item()
        patience = 0 if loss < best else patience + 1
        if loss < best:
            best, kept = loss, copy.deepcopy(model.state_dict())
        if patience > 3:
            break
    torch.save(kept, OUT / "best.pt")


def frozen_norms():
    """A network whose batch norms stay in evaluation, its trunk at a tenth of the rate."""
    trunk = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU())
    model = nn.Sequential(trunk, nn.Dropout(0.1), nn.Linear(32, 4))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.requires_grad_(False)
    groups = [{"params": trunk.parameters(), "lr": 1e-3}, {"params": model[2].parameters()}]
    optimizer = torch.optim.Adam(groups, 1e-2)
    for _ in range(STEPS):
        model.train()
        trunk[1].eval()
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def unfrozen_step_by_step():
    """The head trains alone first, then everything does; the optimizer is given the rest later."""
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(model[3].parameters(), 1e-2)
    for step in range(2 * STEPS):
        if step == STEPS:
            model[0].requires_grad_(True)
            optimizer.add_param_group({"params": model[0].parameters(), "lr": 1e-3})
        x, y = data()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def left_over():
    """The batches of an epoch don't fill the last accumulation, which is carried over."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(2):
        for number in range(10):
            x, y = data(8)
            (F.cross_entropy(model(x), y) / 4).backward()
            if number % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()


def plateau():
    """A scheduler that is asked once an epoch, and may do nothing."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    for _ in range(3):
        for _ in range(5):
            x, y = data()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        scheduler.step(loss)


run(globals())
