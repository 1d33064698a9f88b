# tools: what people run.
tools_MAIN := tools/postern.c
postern_SRC  := tools/postern.c
postern_USES := tools lib
postern_LIBS := $(LIB_LIBS)
PROGRAMS += sbin/postern
