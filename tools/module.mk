# tools: what people run.
tools_MAIN := tools/postern.c tools/servertest.c tools/token.c
postern_SRC  := tools/postern.c
postern_USES := tools lib
postern_LIBS := $(LIB_LIBS)
servertest_SRC  := tools/servertest.c
servertest_USES := tools smtpout resolver lib
servertest_LIBS := -lunbound -lssl -lcrypto -lgsasl $(LIB_LIBS)
# Of its own, so that no other program has libcurl in it.
token_SRC  := tools/token.c
token_USES := tools resolver lib
token_LIBS := -lcurl -lunbound $(LIB_LIBS)
PROGRAMS += sbin/postern libexec/postern/servertest libexec/postern/token
