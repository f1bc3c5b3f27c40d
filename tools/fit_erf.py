#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fits the rational function behind the vectorised erf GELU and the polynomial behind exp.

Prints the coefficients that stand in src/ops/cpu/vmath.h and their errors, evaluated in f32 as the
kernels do (with fused multiply-adds rounded once). Needs only the standard library:
    python3 tools/fit_erf.py

GELU:  Phi(x) = 1/2 + x P(x^2) / Q(x^2) for |x| <= CLAMP, fitted for the least largest |error|.
exp:   e^r    = 1 + r + r^2 S(r)        for |r| <= ln 2 / 2, fitted for the least relative error.
Both by Lawson's iteration: least squares whose weights move to where the error is large.
"""
import math
import struct
from decimal import Decimal, getcontext

getcontext().prec = 60
CLAMP = 5.4
POINTS = 160


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def solve(rows, rhs):
    """Least squares by normal equations in 60 digits."""
    n = len(rows[0])
    a = [[sum(r[i] * r[j] for r in rows) for j in range(n)] for i in range(n)]
    b = [sum(r[i] * y for r, y in zip(rows, rhs)) for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(a[k][i]))
        a[i], a[pivot], b[i], b[pivot] = a[pivot], a[i], b[pivot], b[i]
        for k in range(i + 1, n):
            f = a[k][i] / a[i][i]
            a[k] = [x - f * y for x, y in zip(a[k], a[i])]
            b[k] -= f * b[i]
    out = [Decimal(0)] * n
    for i in reversed(range(n)):
        out[i] = (b[i] - sum(a[i][j] * out[j] for j in range(i + 1, n))) / a[i][i]
    return out


def poly(c, t):
    s = 0.0
    for x in reversed(c):
        s = s * t + x
    return s


def nodes(low, high):
    return [low + (high - low) * (0.5 - 0.5 * math.cos(math.pi * (i + 0.5) / POINTS))
            for i in range(POINTS)]


def fit(xs, value, weight, var, num, den, rounds=60):
    """num and den coefficients of value(x) ~ P(t)/Q(t), t = var(x), q0 = 1."""
    lawson = [1.0] * len(xs)
    q = [1.0] + [0.0] * den
    best = None
    for _ in range(rounds):
        rows, rhs = [], []
        for x, l in zip(xs, lawson):
            t, v = Decimal(var(x)), Decimal(value(x))
            w = Decimal(weight(x) * math.sqrt(l) / abs(poly(q, var(x))))
            rows.append([w * t**i for i in range(num + 1)] +
                        [-w * v * t**i for i in range(1, den + 1)])
            rhs.append(w * v)
        c = [float(x) for x in solve(rows, rhs)]
        p, q = c[:num + 1], [1.0] + c[num + 1:]
        errors = [abs(poly(p, var(x)) / poly(q, var(x)) - value(x)) * weight(x) for x in xs]
        if best is None or max(errors) < best[0]:
            best = (max(errors), p, q)
        lawson = [l * (e + 1e-3 * max(errors)) for l, e in zip(lawson, errors)]
        total = sum(lawson)
        lawson = [l * len(lawson) / total for l in lawson]
    return best


def poly_f32(c, t):
    s = f32(c[-1])
    for x in reversed(c[:-1]):
        s = f32(s * t + f32(x))
    return s


def show(name, c):
    print(f"{name}: " + ", ".join(f"{f32(x):.9g}f" for x in c))


def main():
    def phi(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def slope(x):
        return 0.5 * math.erf(x / math.sqrt(2)) / x

    error, p, q = fit(nodes(1e-3, CLAMP), slope, lambda x: x, lambda x: x * x, 5, 5)
    show("phi P", p)
    show("phi Q", q)
    worst = 0.0
    for i in range(-80000, 80001):
        x = f32(i * 1e-4)
        c = max(-CLAMP, min(CLAMP, x))
        t = f32(c * c)
        y = f32(0.5 + f32(c * f32(poly_f32(p, t) / poly_f32(q, t)))) if x >= -CLAMP else 0.0
        worst = max(worst, abs(y - phi(x)))
    print(f"phi: fit {error:.2e}, in f32 at most {worst:.2e}: GELU is off by {worst:.1e} * |x|")

    half = math.log(2) / 2
    error, s, _ = fit(nodes(-half, half), lambda r: (math.exp(r) - 1 - r) / (r * r),
                      lambda r: r * r / math.exp(r), lambda r: r, 4, 0)
    show("exp S", s)
    worst = 0.0
    for i in range(-20000, 20001):
        r = f32(half * i / 20000)
        y = f32(1 + f32(f32(f32(r * r) * poly_f32(s, r)) + r))
        worst = max(worst, abs(y / math.exp(r) - 1))
    print(f"exp: fit {error:.2e}, in f32 at most {worst:.2e} relative")


main()
