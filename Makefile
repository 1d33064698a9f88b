# Postern. One Makefile; each folder brings a module.mk.
## Building
##   all            programs, below build/          install        DESTDIR=, PREFIX=/usr/local, SYSCONFDIR=/etc
##   demo           a private instance shows what it does; needs no configuration and no root
##   clean          removes build/ but the test servers in build/peers; distclean removes those too
##   dist           postern-VERSION.tar.gz          compile_commands.json   for editors and clang-tidy
#
# FLAVOUR chooses compiler and checks; each has its own folder, so they do not disturb one another:
#   (none)  build/         gcc -O2, hardened: what is installed
#   asan    build/asan/    address and undefined-behaviour sanitizers
#   clang   build/clang/   clang, for its other warnings
#   fuzz    build/fuzz/    clang with libFuzzer
VERSION := 0.1.0
PREFIX  ?= /usr/local
SYSCONFDIR ?= /etc
FLAVOUR ?=
OUT     := build$(if $(FLAVOUR),/$(FLAVOUR))

CC      := $(if $(filter clang fuzz,$(FLAVOUR)),clang,gcc)
AR      := ar
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
           -Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wno-unused-parameter -Wno-missing-field-initializers
HARDEN  := -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fstack-clash-protection -fcf-protection
LINKSAFE:= -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
ifneq ($(filter asan fuzz,$(FLAVOUR)),)
HARDEN  := -fPIE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer \
           $(if $(filter fuzz,$(FLAVOUR)),-fsanitize=fuzzer-no-link)
LINKSAFE:= -pie -Wl,--as-needed -fsanitize=address,undefined
endif
OPT     := $(if $(filter asan fuzz,$(FLAVOUR)),-O1,-O2) -g
CFLAGS  ?=
DEFS    := -D_GNU_SOURCE -DPOSTERN_VERSION='"$(VERSION)"' -DPOSTERN_SYSCONFDIR='"$(SYSCONFDIR)"' \
           $(if $(filter asan fuzz,$(FLAVOUR)),-DPOSTERN_SANITIZED)
ALL_CFLAGS = -std=c11 $(OPT) $(WARN) $(HARDEN) $(DEFS) -I. -include lib/banned.h -MMD -MP $(CFLAGS)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(2)')

FOLDERS := lib master pickup scheduler resolver limiter smtpout tools
PROGRAMS :=
.SUFFIXES:
.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all
all:

include $(addsuffix /module.mk,$(FOLDERS)) conf/module.mk man/module.mk tests/module.mk

# A folder's archive holds everything but the file with its main(), and what its module.mk makes (_MADE).
define folder_rules
$(1)_OBJ := $$(patsubst %.c,$$(OUT)/obj/%.o,$$(filter-out $$($(1)_MAIN),$$(wildcard $(1)/*.c)))
$$(OUT)/obj/$(1).a: $$($(1)_OBJ) $$($(1)_MADE)
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call folder_rules,$(f))))

# PROGRAM_path: source with main(), then archives, then libraries.
define program_rules
$$(OUT)/$(1): $$(OUT)/obj/$$(basename $$($(notdir $(1))_SRC)).o $$(addprefix $$(OUT)/obj/,$$(addsuffix .a,$$($(notdir $(1))_USES))) 
	$$(call say,LINK,$$@)
	$$(Q)mkdir -p $$(@D) && $$(CC) $$(LINKSAFE) $$(LDFLAGS) -o $$@ $$^ $$($(notdir $(1))_LIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rules,$(p))))

$(OUT)/obj/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -c -o $@ $<

all: $(addprefix $(OUT)/,$(PROGRAMS))

.PHONY: clean distclean dist help
clean:
	$(Q)rm -rf $(filter-out build/peers,$(wildcard build/*)) compile_commands.json
distclean: clean
	$(Q)rm -rf build
dist:
	$(Q)git rev-parse -q --verify HEAD >/dev/null 2>&1 || { echo 'make dist: packs what git has committed; this is no clone' >&2; exit 1; }
	$(Q)mkdir -p build && git archive --prefix=postern-$(VERSION)/ -o build/postern-$(VERSION).tar.gz HEAD
	@echo build/postern-$(VERSION).tar.gz
help:
	@sed -nE 's/^## ?//p' Makefile tests/module.mk

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
