# tests: unit/ fuzz/ in C, system/ crash/ in Python (pytest), bench/, demo/, fake/ (the sink they all send to).
# What each target needs besides the compiler is installed by deps and deps-test.
##
## Tests
##   check          everything below that must hold; ends with `N passed, N failed, N skipped`
##   unit           unit tests alone                fuzz      each fuzz target for FUZZ_SECONDS (60)
##   system         system tests alone; K=WORD picks some
##   check-npm      logins at Nodemailer's smtp-server; fetches it with npm
##   soak           crash tests at full length      bench     speed beside Postfix
##   bench-limits   durable permits a second, memory and start with 10,000 servers
##   asan           unit and system tests with address and undefined-behaviour sanitizers
PYTHON := /usr/bin/python3
TEST_LIBS := -lcmocka -llua5.1 -lhiredis -ldb -lunbound -lssl -lcrypto -lgsasl -lcurl $(LIB_LIBS)
FUZZ_SECONDS ?= 60

# tests/unit/FOLDER_MODULE_test.c sees its own folder and lib/, nothing else.
UNIT_TESTS := $(patsubst tests/unit/%.c,$(OUT)/tests/unit/%,$(wildcard tests/unit/*_test.c))
define unit_rules
$(1): $(OUT)/obj/tests/unit/$(notdir $(1)).o $(OUT)/obj/$(firstword $(subst _, ,$(notdir $(1)))).a $(OUT)/obj/lib.a
	$$(call say,LINK,$$@)
	$$(Q)mkdir -p $$(@D) && $$(CC) $$(LINKSAFE) $$(LDFLAGS) -o $$@ $$^ $$(TEST_LIBS)
endef
$(foreach t,$(UNIT_TESTS),$(eval $(call unit_rules,$(t))))

.PHONY: unit-build unit
unit-build: $(UNIT_TESTS) $(OUT)/share/postern/replies.conf
unit: unit-build
	$(Q)tests/run-unit $(OUT) $(UNIT_TESTS)

# The sink that system tests, bench and demo send to: C, because it must be faster than what it measures.
FAKE_PROGRAMS := $(patsubst tests/fake/%.c,$(OUT)/tests/fake/%,$(wildcard tests/fake/*.c))
$(OUT)/tests/fake/%: $(OUT)/obj/tests/fake/%.o
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LINKSAFE) $(LDFLAGS) -o $@ $^

.PHONY: fake system check-npm soak bench bench-limits demo
fake: $(FAKE_PROGRAMS)
system: all fake
	$(Q)POSTERN_BUILD=$(OUT) tests/run-system $(if $(K),-k '$(K)')
check-npm: all fake
	$(Q)POSTERN_BUILD=$(OUT) tests/run-npm build/peers/npm
soak: all fake
	$(Q)POSTERN_BUILD=$(OUT) POSTERN_SOAK=1 tests/run-system -k test_crash
bench: deps-test all fake
	$(Q)POSTERN_BUILD=$(OUT) $(PYTHON) -B tests/bench/bench.py $(BENCH)
bench-limits: all
	$(Q)POSTERN_BUILD=$(OUT) $(PYTHON) -B tests/bench/limits.py
demo:
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)$(MAKE) --no-print-directory -s -j$(shell nproc) all fake
	$(Q)POSTERN_BUILD=$(OUT) $(PYTHON) -B tests/demo/demo.py

# Each header compiles alone.
HEADERS := $(wildcard $(addsuffix /*.h,$(FOLDERS)))
.PHONY: headers-check drift
headers-check: $(HEADERS:%=$(OUT)/headers/%.ok)
$(OUT)/headers/%.ok: % $(HEADERS)
	$(Q)mkdir -p $(@D) && $(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) -Wno-unused-function -fsyntax-only -x c $< && touch $@

# What the program knows and what its documents say.
drift:
	$(Q)tests/drift

.PHONY: check asan
check:
	$(Q)$(MAKE) --no-print-directory deps deps-test
	$(Q)tests/run-check $(OUT)
asan:
	$(Q)$(MAKE) --no-print-directory deps deps-test
	$(Q)FLAVOUR=asan tests/run-check build/asan

# FLAVOUR=fuzz builds; each target reads tests/fuzz/corpus/NAME and writes what it finds below build/.
FUZZ_NAMES := $(patsubst tests/fuzz/%_fuzz.c,%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_ARCHIVES = $(addprefix $(OUT)/obj/,$(addsuffix .a,$(filter-out lib,$(FOLDERS)) lib))
$(OUT)/tests/fuzz/%: $(OUT)/obj/tests/fuzz/%_fuzz.o $(FUZZ_ARCHIVES)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LINKSAFE) -fsanitize=fuzzer -o $@ $< -Wl,--start-group $(FUZZ_ARCHIVES) -Wl,--end-group \
	  $(filter-out -lcmocka,$(TEST_LIBS))

.PHONY: fuzz fuzz-build
ifeq ($(FLAVOUR),fuzz)
fuzz-build: $(FUZZ_NAMES:%=$(OUT)/tests/fuzz/%)
fuzz: fuzz-build
	$(Q)tests/run-fuzz $(OUT) $(FUZZ_SECONDS) $(or $(FUZZ),$(FUZZ_NAMES))
else
fuzz:
	$(Q)$(MAKE) --no-print-directory FLAVOUR=fuzz fuzz
endif

##
## Habits
##   lint           clang-tidy, cppcheck, size and include rules
##   format         clang-format 14 over all C     format-check   says what it would change
C_FILES = $(wildcard $(foreach f,$(FOLDERS) tests/unit tests/fuzz tests/fake,$(f)/*.c $(f)/*.h))
CLANG_FORMAT := clang-format-14
.PHONY: lint format format-check
lint: compile_commands.json
	$(Q)tests/lint
format:
	$(CLANG_FORMAT) -i $(C_FILES)
format-check:
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)

# One entry per object file, from what make would run.
.PHONY: compile_commands.json
compile_commands.json:
	$(Q)$(MAKE) --no-print-directory -nBk V=1 all unit-build fake | $(PYTHON) -B tests/compile-commands >$@

##
## Packages (Debian); as root these install, otherwise they say what is missing
##   deps           what building needs             deps-test      what make check needs beyond that: real mail servers
DEPS := gcc make libc6-dev libevent-dev libdb-dev libconfuse-dev libjansson-dev libseccomp-dev libidn2-dev \
        libunbound-dev libssl-dev libgsasl-dev libcurl4-openssl-dev libhiredis-dev libcmocka-dev \
        liblua5.1-0-dev python3 python3-dnspython
.PHONY: deps deps-test
deps:
	$(Q)tests/need-packages $(DEPS)
deps-test:
	$(Q)tests/deps-test build/peers
