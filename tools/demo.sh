#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Classifies the shipped photo with the shipped weights and draws where the class was seen.
set -eu
picture=datasets/demo/tiger.jpg
out=demo.overlay.png
apps/classify --cam "$out" "$picture"
echo "where it was seen: $out"
