limiter_MAIN := limiter/limiter.c
limiter_SRC  := limiter/limiter.c
limiter_USES := limiter lib
limiter_LIBS := -ldb $(LIB_LIBS)
PROGRAMS += libexec/postern/limiter
