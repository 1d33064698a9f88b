# tools: what people run.
tools_MAIN := tools/postern.c tools/servertest.c
postern_SRC  := tools/postern.c
postern_USES := tools lib
postern_LIBS := $(LIB_LIBS)
servertest_SRC  := tools/servertest.c
servertest_USES := tools smtpout resolver lib
servertest_LIBS := -lunbound -lssl -lcrypto -lgsasl $(LIB_LIBS)
PROGRAMS += sbin/postern libexec/postern/servertest
