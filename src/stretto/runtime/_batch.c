/* Many datagrams in one system call: recvmmsg and sendmmsg for stretto.runtime.batching, which has the same functions in Python.
 *
 * A source or destination is one integer, IPv4 address << 16 | port, which avoids a tuple and a string. The calls never wait, so they
 * keep the interpreter's lock: releasing and acquiring it would cost as much as the calls themselves.
 */
#define PY_SSIZE_T_CLEAN
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define SEND_CHUNK 64 /* datagrams per sendmmsg */
#define MAX_RECEIVE 1024

/* Receiver: a socket and the buffers for one recvmmsg. */

typedef struct {
    PyObject_HEAD
    PyObject *socket;
    unsigned int slots;
    unsigned int used; /* how many headers the last call has written to */
    char *space;
    struct mmsghdr *headers;
    struct iovec *parts;
    struct sockaddr_in *sources;
} Receiver;

static int
Receiver_init(Receiver *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"socket", "max_datagrams", "max_bytes", NULL};
    PyObject *socket;
    unsigned int slots, bytes;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OII", names, &socket, &slots, &bytes))
        return -1;
    if (self->space != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a Receiver is initialised once");
        return -1;
    }
    if (slots < 1 || slots > MAX_RECEIVE || bytes < 1 || bytes > 65536) {
        PyErr_Format(PyExc_ValueError, "max_datagrams must be 1 to %d, max_bytes 1 to 65536", MAX_RECEIVE);
        return -1;
    }
    self->space = PyMem_Malloc((size_t)slots * bytes);
    self->headers = PyMem_Calloc(slots, sizeof *self->headers);
    self->parts = PyMem_Calloc(slots, sizeof *self->parts);
    self->sources = PyMem_Calloc(slots, sizeof *self->sources);
    if (!self->space || !self->headers || !self->parts || !self->sources) {
        PyErr_NoMemory();
        return -1;
    }
    for (unsigned int i = 0; i < slots; i++) {
        self->parts[i].iov_base = self->space + (size_t)i * bytes;
        self->parts[i].iov_len = bytes;
        self->headers[i].msg_hdr.msg_iov = &self->parts[i];
        self->headers[i].msg_hdr.msg_iovlen = 1;
        self->headers[i].msg_hdr.msg_name = &self->sources[i];
        self->headers[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in);
    }
    self->slots = slots;
    self->socket = Py_NewRef(socket);
    return 0;
}

static void
Receiver_dealloc(Receiver *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->socket);
    PyMem_Free(self->space);
    PyMem_Free(self->headers);
    PyMem_Free(self->parts);
    PyMem_Free(self->sources);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
datagram(const struct mmsghdr *header, const struct sockaddr_in *source)
{
    unsigned long long address = (unsigned long long)ntohl(source->sin_addr.s_addr) << 16 | ntohs(source->sin_port);
    PyObject *number = PyLong_FromUnsignedLongLong(address);
    PyObject *data = PyBytes_FromStringAndSize(header->msg_hdr.msg_iov->iov_base, header->msg_len);
    PyObject *pair = number && data ? PyTuple_Pack(2, number, data) : NULL;
    Py_XDECREF(number);
    Py_XDECREF(data);
    return pair;
}

static PyObject *
Receiver_receive(Receiver *self, PyObject *Py_UNUSED(ignored))
{
    int fd, received;
    PyObject *list;

    if ((fd = PyObject_AsFileDescriptor(self->socket)) < 0)
        return NULL;
    for (unsigned int i = 0; i < self->used; i++)
        self->headers[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in);
    received = recvmmsg(fd, self->headers, self->slots, MSG_DONTWAIT, NULL);
    self->used = received > 0 ? (unsigned int)received : 0;
    if (received < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return PyErr_SetFromErrno(PyExc_OSError);
        received = 0;
    }
    if ((list = PyList_New(received)) == NULL)
        return NULL;
    for (int i = 0; i < received; i++) {
        PyObject *pair = datagram(&self->headers[i], &self->sources[i]);
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

static PyMethodDef Receiver_methods[] = {
    {"receive", (PyCFunction)Receiver_receive, METH_NOARGS, "receive() -> list[tuple[int, bytes]]"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Receiver_slots[] = {
    {Py_tp_doc, "Receiver(socket, max_datagrams, max_bytes)"},
    {Py_tp_init, Receiver_init},
    {Py_tp_dealloc, Receiver_dealloc},
    {Py_tp_methods, Receiver_methods},
    {0, NULL},
};

static PyType_Spec Receiver_spec = {
    .name = "stretto.runtime._batch.Receiver",
    .basicsize = sizeof(Receiver),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Receiver_slots,
};

/* send_many */

/* Fill one slot from an item (destination, bytes). 1: filled, *held owns a reference; 0: invalid address; -1: not such an item. */
static int
prepare(PyObject *item, struct mmsghdr *header, struct iovec *part, struct sockaddr_in *destination, PyObject **held)
{
    PyObject *data;
    unsigned long long address;

    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2 || !PyLong_Check(PyTuple_GET_ITEM(item, 0)) ||
        !PyBytes_Check(data = PyTuple_GET_ITEM(item, 1))) {
        PyErr_SetString(PyExc_TypeError, "a datagram is a tuple (destination: int, data: bytes)");
        return -1;
    }
    address = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(item, 0));
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    if (address >> 48)
        return 0;
    destination->sin_family = AF_INET;
    destination->sin_addr.s_addr = htonl((uint32_t)(address >> 16));
    destination->sin_port = htons((uint16_t)address);
    part->iov_base = PyBytes_AS_STRING(data);
    part->iov_len = (size_t)PyBytes_GET_SIZE(data);
    header->msg_hdr.msg_name = destination;
    header->msg_hdr.msg_namelen = sizeof *destination;
    header->msg_hdr.msg_iov = part;
    header->msg_hdr.msg_iovlen = 1;
    *held = Py_NewRef(data);
    return 1;
}

/* Send all datagrams, and skip those that the kernel does not accept. Returns how many it accepted. */
static unsigned int
send_all(int fd, struct mmsghdr *headers, unsigned int count)
{
    unsigned int taken = 0, next = 0;
    while (next < count) {
        int done = sendmmsg(fd, headers + next, count - next, MSG_DONTWAIT);
        if (done > 0) {
            taken += (unsigned int)done;
            next += (unsigned int)done;
        }
        else if (done == 0 || errno != EINTR)
            next++;
    }
    return taken;
}

static PyObject *
send_many(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    struct mmsghdr headers[SEND_CHUNK];
    struct iovec parts[SEND_CHUNK];
    struct sockaddr_in destinations[SEND_CHUNK];
    PyObject *held[SEND_CHUNK];
    Py_ssize_t next = 0;
    unsigned long taken = 0;
    int fd;

    if (nargs != 2 || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "send_many(socket, datagrams: list[tuple[int, bytes]])");
        return NULL;
    }
    if ((fd = PyObject_AsFileDescriptor(args[0])) < 0)
        return NULL;
    while (next < PyList_GET_SIZE(args[1])) {
        unsigned int count = 0;
        int state = 0;
        for (; next < PyList_GET_SIZE(args[1]) && count < SEND_CHUNK; next++) {
            memset(&headers[count], 0, sizeof headers[count]);
            memset(&destinations[count], 0, sizeof destinations[count]);
            state = prepare(PyList_GET_ITEM(args[1], next), &headers[count], &parts[count], &destinations[count], &held[count]);
            if (state < 0)
                break;
            count += (unsigned int)state;
        }
        if (state >= 0)
            taken += send_all(fd, headers, count);
        while (count > 0)
            Py_DECREF(held[--count]);
        if (state < 0)
            return NULL;
    }
    return PyLong_FromUnsignedLong(taken);
}

static PyMethodDef functions[] = {
    {"send_many", (PyCFunction)(void (*)(void))send_many, METH_FASTCALL, "send_many(socket, datagrams: list[tuple[int, bytes]]) -> int"},
    {NULL, NULL, 0, NULL},
};

static int
batch_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &Receiver_spec, NULL);
    int status = type == NULL ? -1 : PyModule_AddObjectRef(module, "Receiver", type);
    Py_XDECREF(type);
    return status;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, batch_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "stretto.runtime._batch",
    .m_doc = "recvmmsg and sendmmsg.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__batch(void)
{
    return PyModuleDef_Init(&definition);
}
