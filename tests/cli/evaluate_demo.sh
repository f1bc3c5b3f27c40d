#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make evaluate-demo: what it says without weights, and how answers are compared.
. "$(dirname "$0")/common.sh"
cd "$tmp"

fails 'no weights' 'no weights in nowhere; tools/train/README.md' \
    "$root/tools/evaluate_demo.sh" nowhere
if ! command -v python3 >/dev/null; then
    skip 'comparison' 'python3 is not there'
    finish
fi

# table ANSWER LEAD: two pictures of the training program, the second with this answer
table() {
    mkdir -p weights
    printf 'label\tanswer\tlogit\tlead\n3\t3\t2.5\t1.5\n1\t%s\t2.0\t%s\n' "$1" "$2" >weights/net.tsv
}
# result LABEL LOGIT [DTYPE]: ours, which answer 3 and 1
result() {
    cat >net.json <<JSON
{"complete": true, "run": {"dtype": "${3:-f32}"}, "records": [
  [0, "3/0.png", 3, 0, 0.1, [[3, 2.5, 0.8], [1, 1.0, 0.1]]],
  [1, "$1/1.png", $1, 0, 0.1, [[1, $2, 0.8], [2, 1.75, 0.1]]]]}
JSON
}
compare="python3 $root/tools/compare_predictions.py weights net.json"
result 1 2.0
table 1 0.25
works 'equal answers' '^net +2 +100[.]00 % +100[.]00 % +0 +0[.]0e[+]00$' $compare
table 1 0.5
works 'another lead' '^net .* 0 +2[.]5e-01$' $compare
result 1 2.125
table 1 0.375
works 'another logit' '^net .* 0 +1[.]2e-01$' $compare
result 1 2.0
table 2 0.0005
works 'an answer lost to rounding' '^net: 1/1[.]png: ours 1, .* 2, which led by 0[.]000500$' $compare
works 'both accuracies' '^net +2 +100[.]00 % +50[.]00 % +1 ' $compare
table 2 0.25
check 'another answer' 1 '^1 answers differ by more than rounding$' '^net +2 .* 1 ' $compare
result 1 2.0 f16
table 2 0.02
works 'a lead that f16 explains' 'which led by 0[.]020000$' $compare
table 2 0.03
check 'a lead that f16 does not explain' 1 '^1 answers differ' '.*' $compare
result 2 2.0
check 'another label' 1 '^2/1[.]png: its label is 2, in net[.]tsv 1$' '' $compare
sed -i 's/"complete": true/"complete": false/' net.json
check 'a run that was stopped' 1 '^net[.]json: the evaluation was stopped$' '' $compare
finish
