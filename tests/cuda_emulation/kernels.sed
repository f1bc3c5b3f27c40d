# SPDX-License-Identifier: Apache-2.0
# sed -z -E: what C++ lacks in a CUDA source, as calls of emulator.h. Lines stay where they are.
s/extern __shared__ (__align__\([0-9]+\) )?([a-z ]+) ([a-z]+)\[\];/\2 *\3 = (\2 *)vt_emulated_dynamic();/g
s/__shared__ ([a-z0-9]+) ([a-z]+)((\[[^];]+\])+);/auto \&\2 = vt_emulated_variable<\1\3>(__LINE__);/g
s/([a-z0-9_]+)(<[^<>;{}]*>)?([ \n]*)<<<(([^>]|>[^>])*)>>>/\3vt_emulated_launch("\1", \1\2, \4)/g
