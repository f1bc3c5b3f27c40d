# SPDX-License-Identifier: Apache-2.0
# Vertebra: `make help` lists what there is. Sources and tests are found by themselves.

DEBUG    ?= 0
SANITIZE ?= 0
CUDA_ARCHS ?= 80 89 90a
CC       := $(if $(filter default,$(origin CC)),gcc,$(CC))
AR       := $(if $(filter default,$(origin AR)),ar,$(AR))
MACHINE  := $(shell $(CC) -dumpmachine 2>/dev/null)
CUDA     ?= $(if $(and $(shell command -v nvcc 2>/dev/null),$(filter x86_64%,$(MACHINE))),1,0)
PREFIX   ?= /usr/local
DESTDIR  ?=
# A cross build names its own folder and machine: make CC=aarch64-linux-gnu-gcc CONFIG=aarch64
CONFIG   ?= $(if $(filter 1,$(SANITIZE)),sanitize,$(if $(filter 1,$(DEBUG)),debug,release))
B        := build/$(CONFIG)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
            -Wvla -Wpointer-arith -Wwrite-strings
OPTIMISE := $(if $(filter 1,$(DEBUG)),-O0 -g3,$(if $(filter 1,$(SANITIZE)),-O1 -g,-O2 -g1 -DNDEBUG))
comma    := ,
CHECKERS := $(if $(filter 1,$(SANITIZE)),-fsanitize=address$(comma)undefined \
            -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
CPPFLAGS += -Iinclude -Isrc -D_GNU_SOURCE
# Contraction into fused multiply-adds is off everywhere but in the fast kernels, so that the
# reference and the picture code give the same bits on every machine.
CFLAGS   += -std=c11 $(WARNINGS) $(OPTIMISE) $(CHECKERS) -ffp-contract=off -fopenmp -fPIC \
            -fvisibility=hidden -MMD -MP $(EXTRA_CFLAGS)
LDFLAGS  += $(CHECKERS) -fopenmp $(EXTRA_LDFLAGS)
CORE_LIBS  := -ljansson -lz -lm
IMAGE_LIBS := -lpng -ljpeg

# ---- what is built -------------------------------------------------------------------------
KERNEL_SRC := src/ops/cpu/kernels.c src/ops/cpu/map_kernels.c
CORE_SRC  := $(filter-out $(KERNEL_SRC),$(wildcard src/core/*.c src/ops/*.c src/ops/ref/*.c \
             src/ops/cpu/*.c src/layers/*.c src/backbones/*.c src/model/*.c src/tasks/*.c src/io/*.c))
IMAGE_SRC := $(wildcard src/io/image/*.c)
APPS      := $(patsubst apps/%.c,%,$(wildcard apps/*.c))
TESTS     := $(patsubst tests/%.c,%,$(wildcard tests/test_*.c))
EXAMPLES  := $(patsubst examples/%.c,%,$(wildcard examples/*.c))

# The fast kernels are compiled once per instruction set.
ISAS := portable $(if $(findstring x86_64,$(MACHINE)),avx2 avx512 avx512_bf16)
AVX2_FLAGS   := -mavx2 -mfma -mf16c
AVX512_FLAGS := $(AVX2_FLAGS) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
ISA_FLAGS_portable    :=
ISA_FLAGS_avx2        := $(AVX2_FLAGS)
ISA_FLAGS_avx512      := $(AVX512_FLAGS)
ISA_FLAGS_avx512_bf16 := $(AVX512_FLAGS) -mavx512bf16

CORE_OBJ  := $(CORE_SRC:%.c=$(B)/%.o) \
             $(foreach isa,$(ISAS),$(KERNEL_SRC:%.c=$(B)/%_$(isa).o)) $(B)/src/families.o
IMAGE_OBJ := $(IMAGE_SRC:%.c=$(B)/%.o)
APP_SHARED := $(patsubst %.c,$(B)/%.o,$(wildcard apps/common/*.c))
TEST_SHARED := $(patsubst %.c,$(B)/%.o,$(wildcard tests/support/*.c))
CUDA_OBJ  := $(patsubst %.c,$(B)/%.o,$(wildcard src/cuda/*.c)) \
             $(patsubst %.cu,$(B)/%.cu.o,$(wildcard src/cuda/*.cu)) \
             $(B)/src/core/status.o $(B)/src/core/memory.o $(B)/src/core/tensor.o \
             $(B)/src/ops/names.o
CUDA_LIB  := $(if $(and $(filter 1,$(CUDA)),$(wildcard src/cuda/*.cu)),$(B)/libvertebra_cuda.so.0)
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(shell command -v nvcc 2>/dev/null))
LIB       := $(B)/libvertebra.a
IMAGE_LIB := $(B)/libvertebra_image.a

all: lib apps ## libraries and apps (default)
lib: $(LIB) $(IMAGE_LIB) $(B)/libvertebra.so.0 $(B)/libvertebra_image.so.0 $(CUDA_LIB) ## static and shared libraries
apps: $(APPS:%=$(B)/apps/%) $(if $(filter release,$(CONFIG)),$(APPS:%=apps/%)) ## the programs
examples: $(EXAMPLES:%=$(B)/examples/%) ## the example programs
tests: apps examples $(B)/bench/layers $(TESTS:%=$(B)/tests/%) ## test programs, not run

$(LIB): $(CORE_OBJ)
$(IMAGE_LIB): $(IMAGE_OBJ)
$(LIB) $(IMAGE_LIB):
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/libvertebra.so.0: $(CORE_OBJ)
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $^ $(LDFLAGS) $(CORE_LIBS)
$(B)/libvertebra_image.so.0: $(IMAGE_OBJ) $(B)/libvertebra.so.0
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $^ $(LDFLAGS) $(IMAGE_LIBS) -lm

# SASS for each architecture and PTX of a plain one for what comes after them.
GENCODES := $(foreach a,$(CUDA_ARCHS),-gencode=arch=compute_$(a)$(comma)code=sm_$(a)) \
            -gencode=arch=compute_90$(comma)code=compute_90
$(B)/src/cuda/%.cu.o: src/cuda/%.cu
	@mkdir -p $(@D)
	nvcc $(GENCODES) $(NVCCFLAGS) -O3 -std=c++17 --expt-relaxed-constexpr -Iinclude -Isrc \
	    -Xcompiler -fPIC,-Wall,-fvisibility=hidden -MMD -MP -c -o $@ $<
$(B)/src/cuda/%.o: CPPFLAGS += -isystem $(CUDA_HOME)/include
$(B)/libvertebra_cuda.so.0: $(CUDA_OBJ)
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $^ $(LDFLAGS) -L$(CUDA_HOME)/lib64 \
	    -lcublasLt -lcudart_static -lpthread -ldl -lrt -lstdc++ -lm

# The kernels that need nothing of sm_90a, on the processor: two of the GPU's tests without a GPU.
EMULATED := attention_box attention_line attention_mma attention_plain conv2d conv_few depthwise finish \
            gram gram_mma layout norm patches pictures pool sample scale
EMULATION := $(B)/cuda_emulation
EMULATION_PATHS := -Itests/cuda_emulation -Iinclude -Isrc -I. -D_GNU_SOURCE
EMULATION_FLAGS := -std=c++17 -O2 -g1 -Wall -Wno-unknown-pragmas -MMD -MP \
                   -fno-strict-aliasing -ffp-contract=off -fsanitize=alignment \
                   -fno-sanitize-recover=alignment \
                   $(if $(CHECKERS),$(CHECKERS) --param asan-stack=0)
$(EMULATION)/%.cpp: src/cuda/%.cu tests/cuda_emulation/kernels.sed
	@mkdir -p $(@D)
	(echo '#line 1 "$<"' && sed -z -E -f tests/cuda_emulation/kernels.sed $<) > $@
$(EMULATION)/%.o: $(EMULATION)/%.cpp
	$(CXX) $(EMULATION_PATHS) $(EMULATION_FLAGS) -include emulator.h -c -o $@ $<
$(EMULATION)/emulator.o: tests/cuda_emulation/emulator.cpp
	@mkdir -p $(@D)
	$(CXX) $(EMULATION_PATHS) -std=c++17 -O2 -g1 -Wall -Wextra -MMD -MP -c -o $@ $<
$(EMULATION)/backend.o: tests/cuda_emulation/backend.c
$(EMULATION)/ops.o: src/cuda/ops.c
$(EMULATION)/host_pictures.o: src/cuda/pictures.c
$(EMULATION)/backend.o $(EMULATION)/ops.o $(EMULATION)/host_pictures.o:
	@mkdir -p $(@D)
	$(CC) $(EMULATION_PATHS) $(CFLAGS) -c -o $@ $<
$(EMULATION)/test_%: $(EMULATED:%=$(EMULATION)/%.o) $(EMULATION)/emulator.o $(EMULATION)/backend.o \
        $(EMULATION)/ops.o $(EMULATION)/host_pictures.o $(B)/tests/test_%.o $(TEST_SHARED) \
        $(IMAGE_LIB) $(LIB)
	$(CXX) -fsanitize=alignment -o $@ $^ $(LDFLAGS) -lcmocka $(IMAGE_LIBS) $(CORE_LIBS)

# The kernels alone, checked and timed.
$(B)/cuda_kernels: $(wildcard bench/cuda_kernels*) $(filter %.cu.o %/tensor.o,$(CUDA_OBJ))
	nvcc $(GENCODES) $(NVCCFLAGS) -O3 -std=c++17 --expt-relaxed-constexpr -Iinclude -Isrc \
	    -o $@ $(filter-out %.cuh,$^) -lcublasLt

$(B)/bench/%.o: CPPFLAGS += -Iapps
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

define KERNEL_RULE
$(B)/$(1:%.c=%)_%.o: $(1)
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(if $$(filter 1,$$(SANITIZE)),-O1,-O3) -ffp-contract=fast -fno-math-errno $$(ISA_FLAGS_$$*) \
	    -DVT_ISA_NAME=$$* -c -o $$@ $$<
endef
$(foreach source,$(KERNEL_SRC),$(eval $(call KERNEL_RULE,$(source))))

# The table of backbone families: every src/backbones/NAME.c defines vt_family_NAME.
# It depends on the folder itself, whose time changes when a file comes or goes.
FAMILIES := $(patsubst src/backbones/%.c,%,$(wildcard src/backbones/*.c))
$(B)/src/families.c: Makefile tools/families.sh src/backbones
	@mkdir -p $(@D)
	sh tools/families.sh $(FAMILIES) > $@.tmp && mv $@.tmp $@
$(B)/src/families.o: $(B)/src/families.c
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/apps/%: $(B)/apps/%.o $(APP_SHARED) $(IMAGE_LIB) $(LIB)
	$(CC) -o $@ $^ $(LDFLAGS) $(IMAGE_LIBS) $(CORE_LIBS)
apps/%: $(B)/apps/%
	@cp -f $< $@
$(B)/examples/%: $(B)/examples/%.o $(IMAGE_LIB) $(LIB)
	$(CC) -o $@ $^ $(LDFLAGS) $(IMAGE_LIBS) $(CORE_LIBS)
$(B)/tools/%: $(B)/tools/%.o $(IMAGE_LIB) $(LIB)
	$(CC) -o $@ $^ $(LDFLAGS) $(IMAGE_LIBS) $(CORE_LIBS)
$(B)/bench/%: $(B)/bench/%.o $(APP_SHARED) $(IMAGE_LIB) $(LIB)
	$(CC) -o $@ $^ $(LDFLAGS) $(IMAGE_LIBS) $(CORE_LIBS)
$(B)/tests/%: $(B)/tests/%.o $(TEST_SHARED) $(IMAGE_LIB) $(LIB)
	$(CC) -o $@ $^ $(LDFLAGS) -lcmocka $(IMAGE_LIBS) $(CORE_LIBS)

# ---- what is run ---------------------------------------------------------------------------
demo: ## install what is missing, build, classify the shipped photo
	@sh tools/bootstrap.sh build
	@$(MAKE) --no-print-directory apps
	@sh tools/demo.sh

evaluate-demo: apps ## six small networks on Fashion-MNIST, against the training program's answers
	@tools/evaluate_demo.sh

test: ## install what is missing, build, run every test
	@sh tools/bootstrap.sh test
	@sh tests/run.sh

cuda-sanitize: ## compute-sanitizer over the GPU's operations and kernels (minutes)
	@sh tests/cuda_sanitize.sh

bench: apps ## time the shipped model on this machine
	apps/bench

bench-peers: apps ## time ONNX Runtime, OpenVINO and compiled PyTorch beside ours
	bench/peers/run.sh

install: lib apps ## headers, libraries, apps and vertebra.pc under PREFIX
	sh tools/install.sh "$(B)" "$(DESTDIR)" "$(PREFIX)"

format: ## clang-format every source file
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cu')

clean: ## remove everything that was built
	rm -rf build $(APPS:%=apps/%)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo 'Options: DEBUG=1 SANITIZE=1 CUDA=0|1 CUDA_ARCHS="80 89 90a" CC=... CONFIG=folder PREFIX=... EXTRA_CFLAGS=... (make -j works)'

.PHONY: all lib apps examples tests demo evaluate-demo test cuda-sanitize bench bench-peers install format clean help
.SECONDARY:
.DELETE_ON_ERROR:

%.d: ; # written by the compiler: nothing to try
-include $(shell find $(B) -name '*.d' 2>/dev/null)
