limiter_MAIN := limiter/limiter.c
limiter_SRC  := limiter/limiter.c
limiter_USES := limiter lib
limiter_LIBS := -ldb -lhiredis $(LIB_LIBS)
limiter_MADE := $(OUT)/obj/limiter/store_script.o

# The script that runs in Redis, as a string.
$(OUT)/made/limiter/store_script.c: limiter/store.lua
	$(Q)mkdir -p $(@D) && { echo '#include "limiter/fleet.h"'; echo 'const char STORE_SCRIPT[] ='; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/' $<; echo ';'; } >$@
$(OUT)/obj/limiter/store_script.o: $(OUT)/made/limiter/store_script.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -c -o $@ $<
PROGRAMS += libexec/postern/limiter
