scheduler_MAIN := scheduler/scheduler.c
scheduler_SRC  := scheduler/scheduler.c
scheduler_USES := scheduler lib
scheduler_LIBS := -ldb $(LIB_LIBS)
PROGRAMS += libexec/postern/scheduler
